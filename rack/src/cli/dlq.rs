//! `fluxrig dlq`: the dead letters of the running rack, listed, counted, shown, sent again and purged.

use std::io::{BufRead, IsTerminal, Write};
use std::time::Duration;

use clap::{Args, Subcommand};
use fluxrig_actors::LetterFilter;
use fluxrig_rack::{Answer, Listening, Request, exit, listen_to};
use serde_json::Value;

use super::ask::{answer, asked, runtime, unavailable};
use super::{At, complain, say, say_json, time};

/// Numbers on one command line; more would not go into one request.
const SEQS_MAX: usize = 2000;

#[derive(Debug, Subcommand)]
pub(super) enum DlqCommand {
    /// Lists dead letters, the newest last.
    List {
        #[command(flatten)]
        of: FilterArgs,
        /// Of more than so many, the newest.
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=10_000))]
        limit: Option<u64>,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Counts dead letters by gear and reason, most first.
    Count {
        #[command(flatten)]
        of: FilterArgs,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Shows one: why it is here, and of its message what may be seen.
    Show {
        /// Its number.
        seq: u64,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Sends dead letters over their wires again and says what becomes of each; the exit code is 1 when one is dead again
    /// or refused.
    Replay {
        #[command(flatten)]
        chosen: ChosenArgs,
        /// Also those that may have been sent already: whoever says so has asked the peer.
        #[arg(long)]
        even_maybe_sent: bool,
        /// How long to wait for what becomes of them, up to `1h`; `0` does not wait.
        #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = time::wait)]
        wait: Duration,
        /// As JSON, one object a line.
        #[arg(long)]
        json: bool,
    },
    /// Forgets dead letters, once it is confirmed.
    Purge {
        #[command(flatten)]
        chosen: ChosenArgs,
        /// Does not ask.
        #[arg(long)]
        yes: bool,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
}

/// Which letters are meant.
#[derive(Debug, Args)]
pub(super) struct FilterArgs {
    /// Of this gear; `*` stands for any text.
    #[arg(long, value_name = "GEAR")]
    gear: Option<String>,
    /// With this text in the reason; `*` stands for any text.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// That came on this wire, `gear.port->gear.port`; `*` stands for any text.
    #[arg(long, value_name = "WIRE")]
    wire: Option<String>,
    /// That came here since: `10m`, `2h`, or a time like `2026-01-31T08:00:00Z`.
    #[arg(long, value_name = "DURATION", value_parser = time::since)]
    since: Option<i64>,
}

impl FilterArgs {
    fn filter(&self) -> LetterFilter {
        LetterFilter {
            gear: self.gear.clone(),
            reason: self.reason.clone(),
            wire: self.wire.clone(),
            since_ns: self.since,
            ..LetterFilter::default()
        }
    }
}

/// Which letters are meant, by a command that changes something.
#[derive(Debug, Args)]
pub(super) struct ChosenArgs {
    /// Their numbers.
    #[arg(conflicts_with = "all")]
    seq: Vec<u64>,
    /// All of them, or all that the other options leave.
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    of: FilterArgs,
}

impl ChosenArgs {
    /// Says what is missing: without a word on which, nothing is meant, and certainly not all.
    fn filter(&self, command: &str) -> Result<LetterFilter, u8> {
        let filter = LetterFilter { seqs: self.seq.clone(), ..self.of.filter() };
        let text = if filter == LetterFilter::default() && !self.all {
            format!(
                "{command}: found nothing that says which, expected numbers, options like `--gear`, or `--all`; \
                 remedy: `fluxrig dlq list` shows the numbers"
            )
        } else if self.seq.len() > SEQS_MAX {
            let found = self.seq.len();
            format!("{command}: found {found} numbers, expected at most {SEQS_MAX}; remedy: give fewer at once")
        } else {
            return Ok(filter);
        };
        complain(&text);
        Err(exit::USAGE)
    }
}

pub(super) fn dlq(at: &At, command: &DlqCommand) -> u8 {
    match command {
        DlqCommand::List { of, limit, json } => {
            let limit = limit.map(|limit| usize::try_from(limit).unwrap_or(usize::MAX));
            answer(at, &Request::DlqList { letters: of.filter(), limit }, |found| match json {
                true => say_json(found),
                false => letters(found),
            })
        }
        DlqCommand::Count { of, json } => answer(at, &Request::DlqCount { letters: of.filter() }, |found| match json {
            true => say_json(found),
            false => say(&table(found)),
        }),
        DlqCommand::Show { seq, json } => answer(at, &Request::DlqShow { seq: *seq }, |found| match json {
            true => say_json(found),
            false => letter(found),
        }),
        DlqCommand::Replay { chosen, even_maybe_sent, wait, json } => {
            let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
            let done = chosen.filter("dlq replay").and_then(|letters| {
                replay(at, &Request::DlqReplay { letters, even_maybe_sent: *even_maybe_sent, wait_ms }, *json)
            });
            done.unwrap_or_else(|code| code)
        }
        DlqCommand::Purge { chosen, yes, json } => match confirmed(at, chosen, *yes) {
            Ok(letters) => answer(at, &Request::DlqPurge { letters }, |done| match json {
                true => say_json(done),
                false => say(&format!("{} purged\n", done["purged"])),
            }),
            Err(code) => code,
        },
    }
}

fn plural(count: &Value) -> String {
    format!("{count} dead letter{}", if *count == 1 { "" } else { "s" })
}

fn list<'a>(found: &'a Value, key: &str) -> &'a [Value] {
    found[key].as_array().map(Vec::as_slice).unwrap_or_default()
}

fn letters(found: &Value) {
    let letters = list(found, "letters");
    let is_cut = found["count"].as_u64() > u64::try_from(letters.len()).ok();
    let cut = if is_cut { format!(", the newest {}", letters.len()) } else { String::new() };
    say(&format!("{}{cut}\n", plural(&found["count"])));
    for letter in letters {
        let word = |key: &str| letter[key].as_str().unwrap_or_default();
        let at = fluxrig_actors::clock::utc(letter["at_ns"].as_i64().unwrap_or(0));
        let mark = if letter["is_maybe_sent"] == true { "  MAYBE SENT" } else { "" };
        say(&format!(
            "{:>8}  {at}  {}  attempts {}{mark}  {}\n",
            letter["seq"].to_string(),
            word("gear"),
            letter["attempts"],
            word("reason")
        ));
    }
}

fn letter(found: &Value) {
    for key in
        ["seq", "id", "gear", "wire", "reason", "attempts", "first_error", "last_error", "is_maybe_sent", "content"]
    {
        let value = &found[key];
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        say(&format!("{key:14} {}\n", text.replace('\n', &format!("\n{:15}", ""))));
    }
    say(&format!("{:14} {}\n", "at", fluxrig_actors::clock::utc(found["at_ns"].as_i64().unwrap_or(0))));
}

/// How many letters of each gear have each reason.
fn table(found: &Value) -> String {
    let rows = list(found, "counts");
    let word = |row: &Value, key: &str| row[key].as_str().filter(|text| !text.is_empty()).unwrap_or("-").to_owned();
    let width = rows.iter().map(|row| word(row, "gear").len()).max().unwrap_or(0).max(4);
    let mut text = format!("{}\n", plural(&found["count"]));
    if !rows.is_empty() {
        text.push_str(&format!("\n{:>8}  {:width$}  {:24}  REASON\n", "COUNT", "GEAR", "NEWEST"));
    }
    for row in rows {
        let newest = fluxrig_actors::clock::utc(row["newest_ns"].as_i64().unwrap_or(0));
        let (gear, reason) = (word(row, "gear"), word(row, "reason"));
        text.push_str(&format!("{:>8}  {gear:width$}  {newest:24}  {reason}\n", row["count"].to_string()));
    }
    text
}

/// Which letters may be purged: what was confirmed, and nothing that came later.
fn confirmed(at: &At, chosen: &ChosenArgs, is_sure: bool) -> Result<LetterFilter, u8> {
    let mut letters = chosen.filter("dlq purge")?;
    if is_sure {
        return Ok(letters);
    }
    if !std::io::stdin().is_terminal() {
        complain(
            "dlq purge: found no terminal to ask on, expected a word on whether to forget them; remedy: say `--yes`",
        );
        return Err(exit::USAGE);
    }
    let counts = asked(at, &Request::DlqCount { letters: letters.clone() })?;
    letters.to_seq = Some(counts["last_seq"].as_u64().unwrap_or(0));
    match counts["count"] == 0 || confirms(&mut std::io::stdin().lock(), &mut std::io::stderr(), &table(&counts)) {
        true => Ok(letters),
        false => {
            complain("nothing purged");
            Err(exit::FAILED)
        }
    }
}

/// Whether somebody who sees the table says yes.
pub(super) fn confirms(from: &mut impl BufRead, to: &mut impl Write, table: &str) -> bool {
    let mut said = String::new();
    let asked = write!(to, "{table}\nForget them for good? [y/N] ").and_then(|()| to.flush());
    let heard = asked.and_then(|()| from.read_line(&mut said));
    heard.is_ok() && matches!(said.trim().to_ascii_lowercase().as_str(), "y" | "yes")
}

/// What became of letters that were sent again.
#[derive(Default)]
struct Outcomes {
    handled: u64,
    dead_again: u64,
    waiting: u64,
    refused: u64,
}

impl Outcomes {
    fn note(&mut self, item: &Value) -> String {
        let word = |key: &str| item[key].as_str().unwrap_or_default();
        let text = match word("outcome") {
            "handled" => {
                self.handled += 1;
                "handled".to_owned()
            }
            "dead_again" => {
                self.dead_again += 1;
                format!("dead again as {}: {}", item["again_seq"], word("reason"))
            }
            "refused" => {
                self.refused += 1;
                format!("refused: {}", word("reason"))
            }
            _ => {
                self.waiting += 1;
                format!("still waiting on {}", word("wire"))
            }
        };
        format!("{:>8}  {text}\n", item["seq"].to_string())
    }

    fn sum(&self) -> String {
        let sent = self.handled + self.dead_again + self.waiting;
        let mut text = format!("{sent} sent again");
        let parts = [
            (self.handled, "handled"),
            (self.dead_again, "dead again"),
            (self.waiting, "still waiting"),
            (self.refused, "refused"),
        ];
        let parts: Vec<String> =
            parts.iter().filter(|(count, _)| *count > 0).map(|(count, word)| format!("{count} {word}")).collect();
        if !parts.is_empty() {
            text.push_str(&format!(": {}", parts.join(", ")));
        }
        text.push('\n');
        text
    }
}

fn replay(at: &At, request: &Request, is_json: bool) -> Result<u8, u8> {
    let runtime = runtime()?;
    let mut lines: Listening =
        runtime.block_on(listen_to(&at.data_dir, request)).map_err(|error| unavailable(&error))?;
    let mut outcomes = Outcomes::default();
    loop {
        match runtime.block_on(lines.next()).map_err(|error| unavailable(&error))? {
            Some(Answer::Item(item)) => {
                let text = outcomes.note(&item);
                say(&if is_json { format!("{item}\n") } else { text });
            }
            Some(Answer::Done(done)) => {
                if done["left"] != 0 {
                    complain(&format!("{} more were not sent: run it again", done["left"]));
                }
                break;
            }
            Some(Answer::Refused { code, text }) => {
                complain(&text);
                return Err(code);
            }
            Some(_) => {}
            None => {
                complain(
                    "dlq replay: found the rack ended, expected what became of the letters; remedy: start it and list them again",
                );
                return Err(exit::UNAVAILABLE);
            }
        }
    }
    if !is_json {
        say(&outcomes.sum());
    }
    Ok(if outcomes.dead_again + outcomes.refused > 0 { exit::FAILED } else { exit::DONE })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_a_yes_is_one() {
        for (said, is_yes) in
            [("y\n", true), ("YES\n", true), ("\n", false), ("", false), ("no\n", false), ("ye\n", false)]
        {
            let mut shown = Vec::new();
            assert_eq!(confirms(&mut said.as_bytes(), &mut shown, "2 dead letters\n"), is_yes, "{said:?}");
            assert_eq!(String::from_utf8(shown).unwrap(), "2 dead letters\n\nForget them for good? [y/N] ");
        }
    }

    #[test]
    fn counts_are_a_table() {
        let row = |gear: &str, count| json!({ "gear": gear, "reason": "ten or more", "count": count, "newest_ns": 0 });
        let text = table(&json!({ "count": 4, "counts": [row("pick", 3), row("", 1)] }));
        let expected = "4 dead letters\n\n   COUNT  GEAR  NEWEST                    REASON\n       \
                        3  pick  1970-01-01T00:00:00.000Z  ten or more\n       \
                        1  -     1970-01-01T00:00:00.000Z  ten or more\n";
        assert_eq!(text, expected);
        assert_eq!(table(&json!({ "count": 0, "counts": [] })), "0 dead letters\n");
    }

    #[test]
    fn outcomes_are_told_one_by_one_and_summed_up() {
        let mut outcomes = Outcomes::default();
        assert_eq!(outcomes.sum(), "0 sent again\n");
        let told = [
            json!({ "seq": 1, "outcome": "handled" }),
            json!({ "seq": 2, "outcome": "dead_again", "again_seq": 9, "reason": "ten or more" }),
            json!({ "seq": 3, "outcome": "waiting", "wire": "a.out->b.in" }),
            json!({ "seq": 4, "outcome": "refused", "reason": "no" }),
        ];
        let told: String = told.iter().map(|item| outcomes.note(item)).collect();
        let expected = "       1  handled\n       2  dead again as 9: ten or more\n       \
                        3  still waiting on a.out->b.in\n       4  refused: no\n";
        assert_eq!(told, expected);
        assert_eq!(outcomes.sum(), "3 sent again: 1 handled, 1 dead again, 1 still waiting, 1 refused\n");
    }
}
