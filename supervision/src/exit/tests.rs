//! Reading of ractor's reasons.

use super::*;

#[derive(Debug, thiserror::Error)]
#[error("pump: no water, expected some; remedy: open the valve")]
struct Dry(#[source] std::fmt::Error);

#[test]
fn a_stop_text_reads_as_the_reason_it_was_made_from() {
    for reason in [ExitReason::Normal, ExitReason::Shutdown, ExitReason::GaveUp("too much".into())] {
        assert_eq!(ExitReason::from_stop(reason.to_stop().as_deref()), reason);
        assert!(!reason.is_abnormal());
    }
    assert_eq!(ExitReason::from_stop(Some("tea time")), ExitReason::Normal);
    assert_eq!(ExitReason::from_stop(Some("killed")), ExitReason::Killed);
    assert_eq!(ExitReason::from_stop(Some("actor_task_cancelled")), ExitReason::Killed);
}

#[test]
fn an_error_keeps_its_causes_and_a_bare_text_is_a_panic() {
    let text = "pump: no water, expected some; remedy: open the valve: an error occurred when formatting an argument";
    assert_eq!(ExitReason::from_error(&Dry(std::fmt::Error)), ExitReason::Failed(text.into()));
    let bare: Box<dyn Error + Send + Sync> = "index \"out\" of bounds".into();
    assert_eq!(ExitReason::from_error(bare.as_ref()), ExitReason::Panic("index \"out\" of bounds".into()));
}
