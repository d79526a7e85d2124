//! Puts a checked plan together: numbers, queues, cells, doors, and the tree of actors over them.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use fluxrig_protocol::{EntityId, EntityKind, FluxMsg, Trace};
use fluxrig_supervision::{Backoff, ChildSpec, GiveUp, Restart, SupervisorRef, SupervisorSpec, Vitals};
use smol_str::SmolStr;
use tokio::time::Instant;

use super::recover::{self, Numbers, Opened};
use super::running::{RunningParts, RunningRig};
use super::{JournalOptions, OnFailed, Orphans, RigError};
use crate::bell::Bell;
use crate::cell::{Cell, CellIdentity, Inlet, Wiring};
use crate::clock::World;
use crate::door::{Bound, Door, Gauge};
use crate::endpoint_actor::{EndpointActor, EndpointSetup};
use crate::gear_actor::{GearActor, GearSetup};
use crate::identity::IdKey;
use crate::journal::{Control, Delta, Image, Kind, NameRecord, Reader, Writer, WriterParts};
use crate::journal_actor::{JournalActor, JournalSetup};
use crate::lease::Lease;
use crate::memory::Memory;
use crate::mutants::{self, Mutation};
use crate::node::{Node, NodeParts, Settings, WorldDebug};
use crate::plan::{Line, Part, Plan, Role};
use crate::wire::{Lane, Queue, QueueSpec, Redelivery, Wire};
use crate::wire_actor::{WireActor, WireSetup, body_at, page};

/// Name of the dead-letter wire in the journal; no wire of a plan can be called so.
const DEAD: &str = "$dead";

pub(super) struct Build {
    pub(super) name: SmolStr,
    pub(super) settings: Settings,
    pub(super) plan: Plan,
    pub(super) journal: Option<JournalOptions>,
    pub(super) world: Arc<dyn WorldDebug>,
    pub(super) orphans: Orphans,
    pub(super) on_failed: OnFailed,
    pub(super) machine: u16,
}

/// What is built before the node.
struct Stock {
    queues: Vec<Arc<Queue>>,
    wires: Vec<Arc<Wire>>,
    pagers: Vec<Arc<Bell>>,
    /// Cells of each part, one per partition.
    cells: Vec<Vec<Arc<Cell>>>,
    dead: Arc<Queue>,
    motion: i64,
}

impl Build {
    pub(super) async fn start(mut self) -> Result<RunningRig, RigError> {
        let mut opened = match &self.journal {
            Some(options) => Some(recover::open_journal(options, &self.world).await?),
            None => None,
        };
        let image = opened.as_mut().map(|opened| std::mem::take(&mut opened.image)).unwrap_or_default();
        if let Some(opened) = &mut opened {
            opened.births.clone_from(&image.births);
        }
        let mut numbers = Numbers::new(&self.name, &image);
        let stock = self.stock(&image, &mut numbers);
        let orphans = numbers.orphans(&image);
        let mut first = Delta { names: numbers.new.clone(), ..Delta::default() };
        recover::settle_orphans(&orphans, self.orphans, &image, &mut first)?;
        let reader = opened.as_ref().map(Opened::reader);
        if let Some(reader) = &reader {
            self.bury_orphans(&orphans, &image, &stock, &**reader)?;
            // What waits at the front is read back before anything runs; what went to the dead letters is in this delta.
            first.wires.extend(stock.dead.cut(opened.as_ref().map_or(1, |opened| opened.storage.current())));
            for queue in stock.queues.iter() {
                page(queue, &**reader, self.settings.limits)?;
            }
        }
        let epoch = match &mut opened {
            Some(opened) => opened.begin(first, &*self.world).await?,
            None => 1,
        };
        let unclean = opened.as_ref().map_or(0, |opened| opened.unclean_starts);
        let lease = opened.as_ref().and_then(|opened| opened.lease.clone());
        let node = self.node(&stock, epoch, unclean, lease);
        self.wire_up(&stock, &node);
        let journal = opened.map(|opened| self.journal_setup(opened, &numbers, &node));
        let control = journal.as_ref().map(|setup| Arc::clone(&setup.control));
        let tree = self.tree(&stock, &node, journal, reader.clone());
        let root = match SupervisorRef::start_root(self.name.as_str(), tree).await {
            Ok(root) => root,
            Err(error) => {
                node.halt("the tree did not start");
                return Err(error.into());
            }
        };
        let (watched, ending) = (root.clone(), Arc::clone(&node));
        tokio::spawn(async move {
            // A tree that ends by itself takes the node along: whoever waits for a mark, a door or a fact is told.
            let reason = watched.wait().await;
            ending.halt(&reason.to_string());
        });
        Ok(RunningRig::new(RunningParts { name: self.name, node, root, control, reader }))
    }

    fn stock(&mut self, image: &Image, numbers: &mut Numbers) -> Stock {
        let (plan, world) = (&self.plan, &*self.world);
        let bells: Vec<Vec<Arc<Bell>>> =
            plan.partitions.iter().map(|count| (0..count.get()).map(|_| Arc::default()).collect()).collect();
        let mut queues = Vec::new();
        let mut wires = Vec::new();
        let mut pagers = Vec::new();
        let mut motion = 0;
        for line in &plan.lines {
            let count = line.options.partitions.get();
            let pager: Arc<Bell> = Arc::default();
            let is_effects = plan.parts[line.to.0].is_endpoint();
            let of_wire: Box<[Arc<Queue>]> = (0..count)
                .map(|partition| {
                    let name = numbers.of(
                        Kind::Wire,
                        &line.name,
                        &variant(kept_suffix(line.options.lane).trim_start(), partition, count),
                        world,
                    );
                    let spec = QueueSpec {
                        idx: queues.len(),
                        wire: line.name.clone(),
                        number: name.number,
                        incarnation: incarnation(name.incarnation, line.options.lane, world),
                        lane: line.options.lane,
                        capacity: line.options.capacity,
                        memory_window: line.options.memory_window,
                        redelivery: line.options.redelivery,
                        retention: line.options.retention,
                        is_effects,
                        redactor: self.settings.redactor,
                    };
                    let consumer = Arc::clone(&bells[line.to.0][partition as usize]);
                    let queue = Arc::new(Queue::new(spec, consumer, Arc::clone(&pager)));
                    motion += fill(&queue, image);
                    queues.push(Arc::clone(&queue));
                    queue
                })
                .collect();
            let (name, options, replay_door) = (line.name.clone(), line.options.clone(), OnceLock::new());
            wires.push(Arc::new(Wire { name, options, queues: of_wire, replay_door }));
            pagers.push(pager);
        }
        let dead = self.dead_queue(image, numbers, queues.len());
        queues.push(Arc::clone(&dead));
        let mut cells = Vec::new();
        for (part_idx, part) in self.plan.parts.iter().enumerate() {
            let lane = self.plan.lane_of(part_idx);
            let of_part = (0..self.plan.partitions[part_idx].get())
                .map(|partition| {
                    self.cell(
                        part,
                        partition,
                        lane,
                        image,
                        numbers,
                        &bells[part_idx][partition as usize],
                        self.plan.partitions[part_idx].get(),
                    )
                })
                .collect();
            cells.push(of_part);
        }
        Stock { queues, wires, pagers, cells, dead, motion }
    }

    fn dead_queue(&self, image: &Image, numbers: &mut Numbers, idx: usize) -> Arc<Queue> {
        let name = numbers.of(Kind::Wire, DEAD, "0/1", &*self.world);
        let lane = if self.journal.is_some() { Lane::Flush } else { Lane::Turbo };
        let spec = QueueSpec {
            idx,
            wire: DEAD.into(),
            number: name.number,
            incarnation: name.incarnation,
            lane,
            capacity: usize::MAX,
            memory_window: 4096,
            redelivery: Redelivery::default(),
            retention: None,
            is_effects: true,
            redactor: None,
        };
        let queue = Arc::new(Queue::new(spec, Arc::default(), Arc::default()));
        fill(&queue, image);
        queue
    }

    #[expect(clippy::too_many_arguments, reason = "one call site; a struct would only repeat the names")]
    fn cell(
        &self,
        part: &Part,
        partition: u32,
        lane: Lane,
        image: &Image,
        numbers: &mut Numbers,
        bell: &Arc<Bell>,
        count: u32,
    ) -> Arc<Cell> {
        let name = numbers.of(
            Kind::Gear,
            &part.name,
            &variant(&format!("{}{}", part.type_name(), kept_suffix(lane)), partition, count),
            &*self.world,
        );
        let mut memory = Memory::default();
        if lane.is_standard() {
            let is_by_place = mutants::is(Mutation::StateByPosition);
            let number = if is_by_place { self.number_at_place_of(part, image) } else { name.number };
            if let Some(gear) = image.gears.get(&number) {
                let keys = gear.keys.iter().map(|(key, (value, home))| (key.clone(), value.clone(), *home)).collect();
                memory.recover(keys, recover::timers(image, name.number, &*self.world), gear.generation);
            }
        } else {
            // Nothing outlives the process, so a timer of this one must not repeat an id of the one before.
            let mut start = [0; 8];
            self.world.random(&mut start);
            memory.start_generations(u64::from_le_bytes(start) >> 1);
        }
        let entity = EntityId::from_names(EntityKind::Gear, self.machine, &self.name, &part.name);
        let is_endpoint = part.is_endpoint();
        let identity = CellIdentity { name: part.name.clone(), partition, number: name.number, entity, is_endpoint };
        Arc::new(Cell::new(identity, part.ports.clone(), lane, memory, Arc::clone(bell)))
    }

    /// For a mutation: the number of whatever had this place when the journal began.
    fn number_at_place_of(&self, part: &Part, image: &Image) -> u32 {
        let place = self.plan.parts.iter().position(|other| std::ptr::eq(other, part)).unwrap_or(0);
        let mut gears = image.names.values().filter(|(name, _)| name.kind == Kind::Gear);
        gears.nth(place).map_or(0, |(name, _)| name.number)
    }

    fn bury_orphans(
        &self,
        orphans: &[NameRecord],
        image: &Image,
        stock: &Stock,
        reader: &dyn Reader,
    ) -> Result<(), RigError> {
        let at_ns = self.world.wall_ns();
        for name in orphans {
            let note = Arc::new(recover::orphan_note(name, at_ns));
            let mut letters = Vec::new();
            match name.kind {
                Kind::Wire => {
                    for live in image.wires[&name.number].live.values() {
                        let body = reader.read(live.position.at)?;
                        let msg = body_at(&body, live.position, self.settings.limits).map_err(RigError::Record)?;
                        let flags =
                            if live.is_taken { msg.flags.with(fluxrig_protocol::Flags::MAYBE_SENT) } else { msg.flags };
                        let msg = self.settings.redacted(msg.with_flags(flags));
                        letters.push((msg, crate::wire::After::NOTHING, Some(Arc::clone(&note))));
                    }
                }
                Kind::Gear => {
                    let entity = EntityId::from_names(EntityKind::Gear, self.machine, &name.scenario, &name.name);
                    let mut random = [0; 10];
                    self.world.random(&mut random);
                    let id = fluxrig_protocol::FluxId::v7(u64::try_from(at_ns / 1_000_000).unwrap_or(0), random);
                    let mut msg = FluxMsg::new(id, Trace::default(), entity, at_ns);
                    for (key, (value, _)) in &image.gears[&name.number].keys {
                        msg.data.insert_key(key.clone(), value.clone());
                    }
                    for key in image.gears[&name.number].timers() {
                        msg.meta.set(format!("fluxrig.timer.{key}"), "running");
                    }
                    letters.push((self.settings.redacted(msg), crate::wire::After::NOTHING, Some(note)));
                }
            }
            stock.dead.push_noted(letters.into_iter(), 1);
        }
        Ok(())
    }

    fn node(&self, stock: &Stock, epoch: u64, unclean_starts: u32, lease: Option<Arc<Lease>>) -> Arc<Node> {
        let mut key = [0; 16];
        if self.journal.is_some() {
            // Durable with the journal, so that a repeat after a crash makes the same ids.
            let incarnation = stock.dead.spec.incarnation.to_le_bytes();
            key.copy_from_slice(&blake3::derive_key("fluxrig 2026 derived ids", &incarnation)[..16]);
        } else {
            self.world.random(&mut key);
        }
        let is_careful = unclean_starts >= 2;
        if is_careful {
            tracing::warn!(
                unclean_starts,
                "unclean starts in a row: messages are handled one by one, each attempt durable first"
            );
        }
        Node::new(NodeParts {
            settings: self.settings.clone(),
            world: Arc::clone(&self.world),
            id_key: IdKey::new(key),
            gauge: Arc::new(Gauge::default()),
            epoch,
            queues: stock.queues.clone(),
            wires: stock.wires.clone(),
            cells: stock.cells.iter().flatten().cloned().collect(),
            dead: Arc::clone(&stock.dead),
            is_journaled: self.journal.is_some(),
            is_careful,
            is_unclean: unclean_starts > 0,
            origin: Instant::now(),
            motion: stock.motion,
            lease,
        })
    }

    fn wire_up(&self, stock: &Stock, node: &Arc<Node>) {
        let plan = &self.plan;
        let reach = |set: BTreeSet<usize>| -> Vec<Arc<Queue>> {
            set.into_iter().flat_map(|line_idx| stock.wires[line_idx].queues.iter().cloned()).collect()
        };
        let Settings { unflushed_max: messages, unflushed_bytes_max: bytes, .. } = node.settings;
        let door = |set: BTreeSet<usize>, is_reply: bool| {
            Door::new(reach(set), is_reply, Bound { messages, bytes }, Arc::clone(&node.gauge), None)
        };
        let retaining = stock.wires.iter().enumerate().filter(|(_, wire)| wire.options.retention.is_some());
        let mut doors: Vec<Arc<Door>> = retaining
            .map(|(line_idx, wire)| Arc::clone(wire.replay_door.get_or_init(|| door(plan.reach_of([line_idx]), false))))
            .collect();
        for (part_idx, part) in plan.parts.iter().enumerate() {
            let outs: Vec<Vec<Arc<Wire>>> = (0..part.ports.outputs.len())
                .map(|port_idx| {
                    let lines =
                        plan.lines.iter().zip(&stock.wires).filter(|(line, _)| line.from == (part_idx, port_idx));
                    lines.map(|(_, wire)| Arc::clone(wire)).collect()
                })
                .collect();
            let port_doors: Vec<Arc<Door>> = if part.is_endpoint() {
                (0..outs.len())
                    .map(|port_idx| door(plan.door_set(part_idx, port_idx), plan.is_reply_door(part_idx, port_idx)))
                    .collect()
            } else {
                Vec::new()
            };
            doors.extend(port_doors.iter().cloned());
            for (partition, cell) in stock.cells[part_idx].iter().enumerate() {
                let mut inlets: Vec<Inlet> = plan
                    .lines
                    .iter()
                    .zip(&stock.wires)
                    .filter(|(line, _)| line.to.0 == part_idx)
                    .map(|(line, wire)| Inlet {
                        port_idx: line.to.1,
                        is_reply: part.ports.inputs[line.to.1].is_reply,
                        queue: Arc::clone(&wire.queues[partition]),
                    })
                    .collect();
                inlets.sort_by_key(|inlet| !inlet.is_reply);
                let timer_door = (!part.is_endpoint()).then(|| {
                    let mut set = BTreeSet::new();
                    for port_idx in 0..outs.len() {
                        set.extend(plan.reach(part_idx, port_idx));
                    }
                    Door::new(reach(set), false, Bound::NONE, Arc::clone(&node.gauge), Some(Arc::clone(&cell.bell)))
                });
                doors.extend(timer_door.iter().cloned());
                let neighbours = neighbours(plan, part_idx, &stock.cells);
                cell.wire_up(Wiring { inlets, outs: outs.clone(), doors: port_doors.clone(), timer_door, neighbours });
            }
        }
        *node.doors.lock().expect("nothing panics while it is held") = doors;
    }

    fn journal_setup(&self, opened: Opened, numbers: &Numbers, node: &Arc<Node>) -> JournalSetup {
        let options = self.journal.as_ref().expect("a journal that was opened was asked for");
        let names = opened.names(numbers);
        let writer = Writer::new(WriterParts {
            node: Arc::clone(node),
            disk: options.disk,
            names,
            oldest: opened.oldest,
            births: opened.births,
            segment_age_max: options.segment_age_max,
            storage: opened.storage,
        });
        JournalSetup {
            node: Arc::clone(node),
            control: Control::new(),
            writer: Arc::new(Mutex::new(Some(writer))),
            pace: options.pace,
        }
    }

    /// The tree of DESIGN §4: the journal starts first and stops last, wires before gears.
    fn tree(
        &self,
        stock: &Stock,
        node: &Arc<Node>,
        journal: Option<JournalSetup>,
        reader: Option<Arc<dyn Reader>>,
    ) -> SupervisorSpec {
        let mut wires = SupervisorSpec::one_for_one().intensity(100, Duration::from_secs(10));
        for (wire, bell) in stock.wires.iter().zip(&stock.pagers) {
            let setup = (Arc::clone(wire), Arc::clone(node), Arc::clone(bell), reader.clone());
            let depth = Arc::clone(wire);
            let observed = Arc::clone(node);
            let child = ChildSpec::worker(wire.name.as_str(), move |start| {
                let (wire, node, bell, reader) = setup.clone();
                async move { start.spawn(WireActor, WireSetup { wire, node, bell, reader }).await }
            });
            wires = wires.child(child.vitals(move || wire_vitals(&depth, &observed)));
        }
        // A gear that gives up has had its restarts; here there are no more (they would be counted again and again).
        let mut gears = SupervisorSpec::one_for_one().intensity(0, Duration::from_secs(60));
        for (part, cells) in self.plan.parts.iter().zip(&stock.cells) {
            gears = gears.child(ChildSpec::supervisor(part.name.as_str(), self.gear_tree(part, cells, node)));
        }
        let scenario = SupervisorSpec::rest_for_one()
            .intensity(0, Duration::from_secs(60))
            .child(ChildSpec::supervisor("wires", wires))
            .child(ChildSpec::supervisor("gears", gears));
        let mut core = SupervisorSpec::rest_for_one();
        if let Some(setup) = journal {
            let child = ChildSpec::worker("journal", move |start| {
                let setup = setup.clone();
                async move { start.spawn(JournalActor, setup).await }
            });
            // Its writer lives as long as the process: a restart is a restart of the rig.
            let never = Backoff::new(Duration::ZERO, Duration::ZERO);
            core = core
                .child(child.backoff(never).shutdown(fluxrig_supervision::Shutdown::Timeout(Duration::from_secs(60))));
        }
        core = core.intensity(0, Duration::from_secs(60)).child(ChildSpec::supervisor("scenario", scenario));
        SupervisorSpec::one_for_one().intensity(0, Duration::from_secs(60)).child(ChildSpec::supervisor("core", core))
    }

    fn gear_tree(&self, part: &Part, cells: &[Arc<Cell>], node: &Arc<Node>) -> SupervisorSpec {
        let supervision = &part.supervision;
        let on_give_up = match self.on_failed {
            OnFailed::Hold => GiveUp::Hold,
            OnFailed::Stop => GiveUp::Escalate,
        };
        let mut spec = SupervisorSpec::one_for_one()
            .intensity(supervision.max_restarts, supervision.within)
            .on_give_up(on_give_up);
        for cell in cells {
            let (observed, seen) = (Arc::clone(cell), Arc::clone(node));
            let child = match &part.role {
                Role::Gear(gear) => {
                    let setup = (Arc::clone(gear), Arc::clone(node), Arc::clone(cell));
                    ChildSpec::worker(instance_name(cell), move |start| {
                        let (gear, node, cell) = setup.clone();
                        async move { start.spawn(GearActor, GearSetup { gear, node, cell }).await }
                    })
                    .restart(supervision.restart)
                }
                Role::Endpoint(endpoint) => {
                    let setup = (Arc::clone(endpoint), Arc::clone(node), Arc::clone(cell));
                    let restart = match supervision.restart {
                        // An endpoint whose source is exhausted has ended well.
                        Restart::Permanent => Restart::Transient,
                        other => other,
                    };
                    ChildSpec::worker(instance_name(cell), move |start| {
                        let (endpoint, node, cell) = setup.clone();
                        async move { start.spawn(EndpointActor, EndpointSetup { endpoint, node, cell }).await }
                    })
                    .restart(restart)
                }
            };
            spec = spec.child(
                child
                    .backoff(supervision.backoff)
                    .progress(Arc::clone(&cell.counters.handled))
                    .stuck_after(supervision.handle_timeout)
                    .vitals(move || cell_vitals(&observed, &seen)),
            );
        }
        spec
    }
}

fn instance_name(cell: &Cell) -> String {
    format!("{}/{}", cell.name, cell.partition).replace('/', "-")
}

/// What a journal does not keep is another thing than what it keeps: made turbo, an old wire's messages and an old gear's
/// state are orphans, and not silently there again at every start.
fn kept_suffix(lane: Lane) -> &'static str {
    if lane.is_standard() { "" } else { " turbo" }
}

/// Names the sequences of a queue to whoever remembers them elsewhere. What a journal does not keep begins at one again in
/// every process, and what is only in the page cache may after a power cut: those are other sequences.
fn incarnation(of_name: u64, lane: Lane, world: &dyn World) -> u64 {
    match lane {
        Lane::Flush => of_name,
        Lane::Os => of_name ^ world.boot_id(),
        Lane::Turbo => {
            let mut fresh = [0; 8];
            world.random(&mut fresh);
            u64::from_le_bytes(fresh)
        }
    }
}

fn variant(type_name: &str, partition: u32, count: u32) -> String {
    let space = if type_name.is_empty() { "" } else { " " };
    format!("{type_name}{space}{partition}/{count}")
}

fn fill(queue: &Queue, image: &Image) -> i64 {
    let (entries, next_seq) = recover::entries(image, queue.spec.number);
    queue.recover(entries, next_seq, recover::retained(image, queue.spec.number, queue.spec.retention))
}

/// Gears between an endpoint and the next ones, which hear of its link.
fn neighbours(plan: &Plan, part_idx: usize, cells: &[Vec<Arc<Cell>>]) -> Vec<Arc<Cell>> {
    if !plan.parts[part_idx].is_endpoint() {
        return Vec::new();
    }
    let forward = gears_along(plan, part_idx, |line| (line.from.0, line.to.0));
    let backward = gears_along(plan, part_idx, |line| (line.to.0, line.from.0));
    forward.union(&backward).flat_map(|&idx| cells[idx].iter().cloned()).collect()
}

/// Gears that can be reached from a part along wires; endpoints end the walk.
fn gears_along(plan: &Plan, part_idx: usize, ends: impl Fn(&Line) -> (usize, usize)) -> BTreeSet<usize> {
    let mut found = BTreeSet::new();
    let mut open = vec![part_idx];
    while let Some(from_idx) = open.pop() {
        let next = plan.lines.iter().map(&ends).filter(|&(from, _)| from == from_idx).map(|(_, to)| to);
        open.extend(next.filter(|&idx| !plan.parts[idx].is_endpoint() && found.insert(idx)));
    }
    found
}

fn age_ms(since_ns: u64, now_ns: u64) -> u64 {
    now_ns.saturating_sub(since_ns) / 1_000_000
}

fn wire_vitals(wire: &Wire, node: &Node) -> Vitals {
    let now_ns = node.now_ns();
    let oldest_ns = wire.queues.iter().filter_map(|queue| queue.oldest_since_ns()).min();
    Vitals {
        depth: wire.queues.iter().map(|queue| queue.len() as u64).sum(),
        handled: wire.queues.iter().map(|queue| queue.passed()).sum(),
        oldest_ms: oldest_ns.map(|since_ns| age_ms(since_ns, now_ns)),
        busy_ms: None,
    }
}

fn cell_vitals(cell: &Cell, node: &Node) -> Vitals {
    let now_ns = node.now_ns();
    let oldest_ns = cell.wiring().inlets.iter().filter_map(|inlet| inlet.queue.oldest_since_ns()).min();
    let busy_since_ns = cell.counters.busy_since_ns.load(Ordering::Relaxed);
    Vitals {
        depth: cell.depth() as u64,
        handled: cell.counters.handled.load(Ordering::Relaxed),
        oldest_ms: oldest_ns.map(|since_ns| age_ms(since_ns, now_ns)),
        busy_ms: (busy_since_ns > 0).then(|| age_ms(busy_since_ns, now_ns)),
    }
}
