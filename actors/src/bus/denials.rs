//! What a server has denied on this connection: it says so beside the request, which itself only times out.

use std::collections::VecDeque;
use std::sync::Mutex;

use super::BusError;

/// Denials that are remembered; older ones go first.
const DENIALS_MAX: usize = 64;

/// The newest denials, oldest first.
#[derive(Debug, Default)]
pub(super) struct Denials(Mutex<VecDeque<(bool, String)>>);

impl Denials {
    /// Remembers what this error of the server denies, if it denies anything.
    pub(super) fn note(&self, text: &str) {
        let Some((is_publish, subject)) = parse(text) else { return };
        let denied = (is_publish, permission(subject));
        let mut denials = self.0.lock().expect("nothing panics while it is held");
        if denials.contains(&denied) {
            return;
        }
        tracing::error!(subject = %denied.1, is_publish = denied.0, "bus: the server denied a subject");
        denials.push_back(denied);
        if denials.len() > DENIALS_MAX {
            denials.pop_front();
        }
    }

    /// A new connection may have other permissions.
    pub(super) fn forget(&self) {
        self.0.lock().expect("nothing panics while it is held").clear();
    }

    /// Whether `subject` was denied.
    pub(super) fn of(&self, subject: &str) -> Option<BusError> {
        let denials = self.0.lock().expect("nothing panics while it is held");
        let (is_publish, subject) = denials.iter().find(|(_, denied)| denied == subject)?;
        Some(BusError::Denied { what: if *is_publish { "publish" } else { "subscribe" }, subject: subject.clone() })
    }

    /// Whatever was denied among subjects that begin like this.
    pub(super) fn below(&self, prefix: &str) -> Option<BusError> {
        let denials = self.0.lock().expect("nothing panics while it is held");
        let (is_publish, subject) = denials.iter().find(|(_, denied)| denied.starts_with(prefix))?;
        Some(BusError::Denied { what: if *is_publish { "publish" } else { "subscribe" }, subject: subject.clone() })
    }
}

/// What has to be permitted for it: the rest of these subjects is another one each time.
fn permission(subject: String) -> String {
    let start = ["$JS.ACK.", "_INBOX."].into_iter().find(|start| subject.starts_with(start));
    start.map_or(subject, |start| format!("{start}>"))
}

/// `Permissions Violation for Publish to "a.b"`: whether it was a publish, and the subject.
fn parse(text: &str) -> Option<(bool, String)> {
    let lower = text.to_ascii_lowercase();
    let at = lower.find("permissions violation for ")? + "permissions violation for ".len();
    let (is_publish, skip) = if lower[at..].starts_with("publish to ") {
        (true, "publish to ".len())
    } else if lower[at..].starts_with("subscription to ") {
        (false, "subscription to ".len())
    } else {
        return None;
    };
    let subject = text.get(at + skip..)?.trim_matches(['"', '\'']);
    let subject = subject.split(['"', ' ']).next()?;
    (!subject.is_empty()).then(|| (is_publish, subject.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_what_was_denied() {
        let denials = Denials::default();
        denials.note("Permissions Violation for Publish to \"flux.msg.North.pumps.out\"");
        denials.note("Permissions Violation for Subscription to \"_INBOX.abc.*\"");
        denials.note("Stale Connection");
        let text = denials.of("flux.msg.North.pumps.out").unwrap().to_string();
        assert!(text.contains("publish to `flux.msg.North.pumps.out`") && text.contains("remedy"), "{text}");
        assert!(denials.below("_INBOX.").unwrap().to_string().contains("subscribe to `_INBOX.>`"));
        (0..3).for_each(|idx| denials.note(&format!("Permissions Violation for Publish to \"$JS.ACK.a.b.{idx}\"")));
        assert!(denials.below("$JS.ACK.").unwrap().to_string().contains("add `$JS.ACK.>` to the user's `publish`"));
        assert_eq!(denials.0.lock().unwrap().len(), 3);
        assert_eq!(denials.of("flux.msg.north.pumps.out"), None);
        denials.forget();
        assert_eq!(denials.below("_INBOX."), None);
        (0..2 * DENIALS_MAX).for_each(|idx| denials.note(&format!("Permissions Violation for Publish to \"a.{idx}\"")));
        assert_eq!(denials.0.lock().unwrap().len(), DENIALS_MAX);
    }
}
