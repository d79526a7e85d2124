//! What an operator asks of a supervisor: changes among its children, by a path of names.

use std::collections::VecDeque;
use std::sync::Arc;

use ractor::ActorRef;
use tokio::sync::oneshot;

use super::{Request, State, SupervisorRef};
use crate::error::ControlError;
use crate::spec::{ChildSpec, Kind};
use crate::strategy::{ChildId, Event};

/// What the supervisor at the end of a path is to do.
pub(crate) enum Order {
    /// Give a handle of itself.
    Reveal(Reply<SupervisorRef>),
    /// Take and start another child.
    Add(Box<ChildSpec>, Reply<()>),
    /// Change a child, whose name ends the path.
    Change(Change, Reply<()>),
}

/// What is to happen to a child.
pub(crate) enum Change {
    Restart,
    Terminate,
    Remove,
}

pub(crate) type Reply<T> = oneshot::Sender<Result<T, ControlError>>;

impl Order {
    fn refuse(self, error: ControlError) {
        match self {
            Self::Reveal(reply) => answer(reply, Err(error)),
            Self::Add(_, reply) | Self::Change(_, reply) => answer(reply, Err(error)),
        }
    }
}

impl Change {
    fn event(self, child: ChildId) -> Event {
        match self {
            Self::Restart => Event::Restart(child),
            Self::Terminate => Event::Terminate(child),
            Self::Remove => Event::Remove(child),
        }
    }
}

impl State {
    pub(super) async fn order(&mut self, me: &ActorRef<Request>, mut path: VecDeque<Arc<str>>, order: Order) {
        let kept = usize::from(matches!(order, Order::Change(..)));
        if path.len() > kept
            && let Some(name) = path.pop_front()
        {
            return self.pass_on(name, path, order);
        }
        match order {
            Order::Reveal(reply) => answer(reply, Ok(SupervisorRef::of(self.name.clone(), me, self.ended.clone()))),
            Order::Add(spec, reply) => answer(reply, self.add(me, *spec).await),
            Order::Change(change, reply) => {
                // An empty path names no child, and no child has an empty name.
                let name = path.pop_front().unwrap_or_default();
                answer(reply, self.change(me, name, change).await);
            }
        }
    }

    /// Hands an order to the child supervisor that leads on, which answers by itself: nobody waits on the way.
    fn pass_on(&self, name: Arc<str>, path: VecDeque<Arc<str>>, order: Order) {
        let Some(slot) = self.by_name.get(&name).and_then(|child| self.slots.get(child)) else {
            return order.refuse(ControlError::UnknownChild { supervisor: self.name.clone(), name });
        };
        match slot.actor.as_ref().filter(|_| slot.spec.kind == Kind::Supervisor) {
            // If it ends with the order in its mailbox, the reply is dropped, which tells the asker.
            Some(next) => drop(next.send_message(Request::Order { path, order })),
            None => order.refuse(ControlError::NotASupervisor { supervisor: self.name.clone(), name }),
        }
    }

    async fn add(&mut self, me: &ActorRef<Request>, spec: ChildSpec) -> Result<(), ControlError> {
        if self.decider.is_held() {
            return Err(ControlError::Held { supervisor: self.name.clone() });
        }
        let child = self.adopt(spec).map_err(|source| ControlError::Start { supervisor: self.name.clone(), source })?;
        self.obey(me, Event::Add(child)).await
    }

    async fn change(&mut self, me: &ActorRef<Request>, name: Arc<str>, change: Change) -> Result<(), ControlError> {
        match self.by_name.get(&name) {
            Some(child) => self.obey(me, change.event(*child)).await,
            None => Err(ControlError::UnknownChild { supervisor: self.name.clone(), name }),
        }
    }

    async fn obey(&mut self, me: &ActorRef<Request>, event: Event) -> Result<(), ControlError> {
        match self.follow(me, event).await {
            Some(source) => Err(ControlError::Start { supervisor: self.name.clone(), source }),
            None => Ok(()),
        }
    }
}

/// The asker may be gone, which is not this supervisor's failure.
fn answer<T>(reply: Reply<T>, result: Result<T, ControlError>) {
    drop(reply.send(result));
}
