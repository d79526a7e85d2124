//! A rack in one process: what an endpoint that cannot bind means, and what is said while it drains.

use fluxrig_actors::prelude::*;
use fluxrig_actors::{About, Category, Maturity};

use super::*;
use crate::control::{Answer, Request, ask};

/// Finds its address taken, as a socket would.
#[derive(Debug, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct Taken {}

impl Endpoint for Taken {
    const TYPE: &'static str = "taken";

    fn ports(&self) -> Ports {
        Ports::source()
    }

    async fn run(self: Arc<Self>, _: Io) -> Result<(), GearError> {
        Err(GearError::broken("bind 127.0.0.1:1: found the address in use, expected it free; remedy: change `bind`"))
    }
}

struct TempDir(PathBuf);

impl TempDir {
    fn new(name: &str) -> Self {
        Self(std::env::temp_dir().join(format!("fluxrig-rack-unit-{name}-{}", std::process::id())))
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

fn rack(gear: &str) -> Rack {
    let catalog =
        fluxrig_gears::standard().with_endpoint::<Taken>(About { category: Category::Io, maturity: Maturity::Preview });
    let text = format!("meta: {{ name: unit, version: 0.1.0 }}\ngears: [{{ name: gear, type: {gear} }}]\n");
    Rack::parse("f", &text, &catalog, &|_| None).unwrap()
}

fn list() -> Request {
    Request::DlqList { letters: fluxrig_actors::LetterFilter::default(), limit: None }
}

fn options(dir: &TempDir) -> RackOptions {
    RackOptions { data_dir: dir.0.clone(), ..RackOptions::default() }
}

#[tokio::test]
async fn an_address_in_use_ends_the_rack_with_its_code() {
    let dir = TempDir::new("taken");
    let running = rack("taken").start(options(&dir)).await.unwrap();
    let error = running.run_until(std::future::pending::<()>()).await.unwrap_err();
    assert_eq!(error.exit_code(), 98, "{error}");
    assert!(error.to_string().starts_with("gear `gear`: bind 127.0.0.1:1: found the address in use"), "{error}");
}

#[tokio::test]
async fn a_rack_answers_until_it_has_ended() {
    let dir = TempDir::new("answers");
    let running = rack("generator").start(options(&dir)).await.unwrap();
    let Answer::Done(top) = ask(&dir.0, &Request::Top).await.unwrap() else { panic!("an answer") };
    assert_eq!(top["scenario"], "unit");
    running.shared.is_draining.store(true, Ordering::Relaxed);
    let rig = running.shared.rig.write().await.take().unwrap();
    let Answer::Refused { code, text } = ask(&dir.0, &list()).await.unwrap() else { panic!("a refusal") };
    assert_eq!(code, 75, "{text}");
    rig.stop(Duration::from_secs(1)).await;
    assert!(running.stop().await);
    assert!(ask(&dir.0, &Request::Top).await.unwrap_err().to_string().contains("found nobody listening"));
}

#[tokio::test]
async fn what_a_redactor_takes_out_is_in_no_dead_letter_and_a_mask_says_what_is_shown() {
    let dir = TempDir::new("redactor");
    let text = "meta: { name: unit, version: 0.1.0 }\ngears:\n  \
        - { name: source, type: generator, config: { count: 1, data: { card: \"4111\", pin: \"1234\" } } }\n  \
        - { name: pick, type: map, config: { steps: [{ copy: { from: data.absent, to: data.there } }] } }\n\
        wires:\n  - { from: source, to: pick }\n";
    let options = RackOptions {
        redactor: Some(|msg| {
            let mut msg = msg.clone();
            msg.data.remove_key("pin")?;
            Some(msg)
        }),
        mask: |msg, _| format!("card of {} digits, pin: {}", 4, msg.data.get_key("pin").is_some()),
        ..options(&dir)
    };
    let rack = Rack::parse("f", text, &fluxrig_gears::standard(), &|_| None).unwrap();
    let running = rack.start(options).await.unwrap();
    let letters = loop {
        match ask(&dir.0, &list()).await.unwrap() {
            Answer::Done(letters) if letters["count"] == 1 => break letters,
            _ => tokio::task::yield_now().await,
        }
    };
    let seq = letters["letters"][0]["seq"].as_u64().unwrap();
    let Answer::Done(shown) = ask(&dir.0, &Request::DlqShow { seq }).await.unwrap() else { panic!("an answer") };
    assert_eq!(shown["content"], "card of 4 digits, pin: false");
    assert!(running.stop().await);
}

#[tokio::test]
async fn a_request_that_is_none_is_refused() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let dir = TempDir::new("request");
    let running = rack("generator").start(options(&dir)).await.unwrap();
    let long = vec![b'x'; 200_000];
    for request in [b"{\"ask\":\"nothing\"}\n".as_slice(), b"\n", &long] {
        let mut stream = tokio::net::UnixStream::connect(dir.0.join(crate::SOCKET)).await.unwrap();
        // The rack may close before it has read all of a long one.
        drop(stream.write_all(request).await);
        let mut answer = String::new();
        drop(stream.read_to_string(&mut answer).await);
        assert!(answer.is_empty() || answer.contains("expected one JSON line"), "{answer}");
    }
    assert!(matches!(ask(&dir.0, &Request::Top).await, Ok(Answer::Done(_))));
    assert!(running.stop().await);
}
