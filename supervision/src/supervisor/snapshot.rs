//! The picture of a tree: each supervisor draws its own children and asks those that are supervisors for theirs.

use std::time::Duration;

use ractor::{ActorRef, RpcReplyPort};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::{Request, State};
use crate::spec::Kind;
use crate::tree::{Status, TreeNode};

/// What each level leaves of the time it has for a snapshot, so that a silent child is reported by its parent instead
/// of making the parent silent.
pub(super) const BUDGET_BELOW: f64 = 0.75;

impl State {
    /// Answers from a task when there are supervisors below, because their answers must not delay a restart here.
    pub(super) fn snapshot(&mut self, me: &ActorRef<Request>, budget: Duration, reply: RpcReplyPort<TreeNode>) {
        let (now, deadline, below) = (Instant::now(), Instant::now() + budget, budget.mul_f64(BUDGET_BELOW));
        let mut root = self.own_node(me, now);
        let mut asked = Vec::new();
        for id in self.decider.children() {
            let (Some(slot), Some(phase)) = (self.slots.get_mut(&id), self.decider.phase(id)) else { continue };
            slot.check(&self.name, now);
            let node = slot.node(phase, self.decider.restarts(id), now);
            if let (Kind::Supervisor, Some(actor)) = (node.kind, &slot.actor) {
                let (sender, answer) = oneshot::channel();
                let sent = actor.send_message(Request::Snapshot { budget: below, reply: sender.into() });
                asked.push((root.children.len(), sent.is_ok().then_some(answer)));
            }
            root.children.push(node);
        }
        if asked.is_empty() {
            let _ = reply.send(root);
            return;
        }
        tokio::spawn(async move {
            for (idx, answer) in asked {
                let answered = match answer {
                    Some(answer) => tokio::time::timeout_at(deadline, answer).await.ok().and_then(Result::ok),
                    None => None,
                };
                root.children[idx].graft(answered);
            }
            let _ = reply.send(root);
        });
    }

    fn own_node(&self, me: &ActorRef<Request>, now: Instant) -> TreeNode {
        TreeNode {
            name: self.name.clone(),
            kind: Kind::Supervisor,
            status: if self.decider.is_held() { Status::Failed } else { Status::Running },
            id: Some(me.get_id()),
            restarts: 0,
            last_exit: None,
            up_for: Some(now.saturating_duration_since(self.began)),
            vitals: None,
            rate: None,
            stuck: false,
            answered: true,
            children: Vec::with_capacity(self.slots.len()),
        }
    }
}

impl TreeNode {
    /// Completes a child supervisor's node by its own answer. What its parent knows of its past stays.
    fn graft(&mut self, answer: Option<TreeNode>) {
        match answer {
            Some(answer) => {
                self.status = answer.status;
                self.children = answer.children;
            }
            None => self.answered = self.kind != Kind::Supervisor,
        }
    }
}
