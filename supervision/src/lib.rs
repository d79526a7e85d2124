//! OTP supervision on ractor: who is started, restarted and stopped, when, and in which order.
//! It knows actors, clocks and counters, and nothing of what the actors do.
//!
//! Reading order: [`spec`] is what a caller writes down, [`strategy`] decides (pure, no clock, no actor),
//! [`supervisor`] carries the decisions out, [`tree`] is what one sees of it.
//!
//! ```
//! use fluxrig_supervision::{ChildSpec, SupervisorRef, SupervisorSpec};
//! use ractor::{Actor, ActorProcessingErr, ActorRef};
//!
//! struct Clerk;
//!
//! impl Actor for Clerk {
//!     type Msg = ();
//!     type State = ();
//!     type Arguments = ();
//!
//!     async fn pre_start(&self, _me: ActorRef<()>, _: ()) -> Result<(), ActorProcessingErr> {
//!         Ok(())
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let clerk = ChildSpec::worker("clerk", |start| async move { start.spawn(Clerk, ()).await });
//! let office = SupervisorRef::start_root("office", SupervisorSpec::one_for_one().child(clerk)).await?;
//! println!("{}", office.snapshot().await?);
//! office.stop().await;
//! # Ok(()) }
//! ```

pub mod backoff;
pub mod error;
pub mod exit;
pub mod intensity;
pub mod spec;
pub mod strategy;
pub mod supervisor;
pub mod tree;
pub mod vitals;

pub use backoff::Backoff;
pub use error::{ControlError, StartError};
pub use exit::{ExitReason, SHUTDOWN, shut_down};
pub use intensity::Intensity;
pub use spec::{ChildSpec, GiveUp, Kind, Restart, Shutdown, Start, SupervisorSpec};
pub use strategy::Strategy;
pub use supervisor::SupervisorRef;
pub use tree::{Status, TreeNode};
pub use vitals::{Vitals, VitalsFn};
