//! `fluxrig iso8583 send`: one message, and its answer as a table.

use clap::Args;
use fluxrig_actors::protocol::{EntityId, FluxId, FluxMsg, Map, Trace, Value};
use fluxrig_gears::iso8583::{Decoded, FIELDS, Spec, mask, response_mti};
use fluxrig_rack::exit;
use tokio::io::AsyncWriteExt;
use tokio::time::{Instant, timeout_at};

use super::frame::Messages;
use super::request::Run;
use super::{Failure, Peer, runtime, say};

#[derive(Debug, Args)]
pub(in crate::cli) struct SendArgs {
    #[command(flatten)]
    peer: Peer,
}

pub(super) fn send(args: &SendArgs) -> Result<u8, Failure> {
    let peer = &args.peer;
    let spec = peer.spec()?;
    let mut fields = peer.set_fields(&spec)?;
    let run = Run::new();
    let mut terminal = run.terminal(0);
    run.stamp(&mut terminal, |_| false).fill(&terminal, &spec, &mut fields);
    let body = spec.encode(&peer.mti, &fields).map_err(|error| Failure::usage(format!("--set: {error}")))?;
    let mut bytes = Vec::new();
    if !peer.frames().write(&body, &mut bytes) {
        return Err(Failure::usage(format!(
            "--framing: found a message of {} bytes, expected one that its length can say; remedy: choose `be32`",
            body.len()
        )));
    }
    let (answer, took) = runtime()?.block_on(exchange(peer, &spec, &fields, &bytes))?;
    say(&format!("{} in {:.3} ms\n", answer.mti, took.as_secs_f64() * 1e3));
    say(&table(answer, &spec));
    Ok(exit::DONE)
}

async fn exchange(
    peer: &Peer,
    spec: &Spec,
    request: &Map,
    bytes: &[u8],
) -> Result<(Decoded, std::time::Duration), Failure> {
    let failed = |found: String| Failure {
        code: exit::FAILED,
        text: format!("answer: found {found}, expected one to the request; remedy: see the peer's log"),
    };
    let (read, mut write) = peer.connect().await?.into_split();
    let sent = Instant::now();
    let until = sent + peer.timeout();
    let written = timeout_at(until, write.write_all(bytes)).await;
    written
        .map_err(|_| failed("the peer not reading".to_owned()))?
        .map_err(|error| failed(format!("none ({error})")))?;
    let mut messages = Messages::new(read, peer.frames());
    let mut others = 0_u64;
    loop {
        while let Some(message) = messages.next().map_err(|error| failed(error.to_string()))? {
            let took = sent.elapsed();
            let decoded = spec
                .decode(message)
                .map_err(|error| failed(format!("what `{}` does not read ({error})", spec.name())))?;
            if answers(&decoded, &peer.mti, request) {
                return Ok((decoded, took));
            }
            others += 1;
        }
        match timeout_at(until, messages.fill()).await {
            Ok(Ok(true)) => {}
            Ok(Ok(false)) => return Err(failed(format!("the connection closed after {others} other messages"))),
            Ok(Err(error)) => return Err(failed(format!("none ({error})"))),
            Err(_) => return Err(failed(format!("none after {} ms, and {others} other messages", peer.timeout_ms))),
        }
    }
}

/// An answer of the right type that does not name another request.
fn answers(answer: &Decoded, mti: &str, request: &Map) -> bool {
    let is_same = |key: &str| match (answer.fields.get_key(key), request.get_key(key)) {
        (Some(Value::Text(one)), Some(Value::Text(other))) => one.trim_end() == other.trim_end(),
        _ => true,
    };
    // A message that asks for no answer may get any.
    response_mti(mti).map_or(true, |expected| expected == answer.mti) && ["11", "37"].into_iter().all(is_same)
}

/// Number, name and what may be shown of each field.
fn table(answer: Decoded, spec: &Spec) -> String {
    let mut msg = FluxMsg::new(FluxId::NIL, Trace::default(), EntityId::NIL, 0);
    msg.data.insert_key(FIELDS, answer.fields);
    let mut rows = mask(&msg, spec);
    rows.sort_by_key(|row| row.field.parse::<u8>().unwrap_or(u8::MAX));
    let width = rows.iter().map(|row| row.name.chars().count()).max().unwrap_or(0);
    rows.iter().map(|row| format!("{:>4}  {:width$}  {}\n", row.field, row.name, row.text)).collect()
}
