//! The message: what every wire carries. One shared allocation, copied by whoever changes it while others hold it,
//! encoded at most once per version, and walked at most once to see that it is within limits.

mod decode;
mod encode;
mod unknown;

use std::{
    fmt,
    ops::{Deref, DerefMut},
    sync::{Arc, OnceLock},
};

use bytes::Bytes;
use smallvec::SmallVec;
use smol_str::SmolStr;

pub use encode::EncodeError;
pub use unknown::Unknown;

use crate::{
    EntityId, FluxId, LimitError, Limits, Map, Meta, Trace, Value,
    cbor::{Measure, Memo},
    value::Extent,
};

/// A message. A copy costs one atomic increment; reading goes through [`Body`], and so does writing, which first
/// copies the body when others hold it too and then forgets what was known about the old version.
///
/// ```
/// # use fluxrig_protocol::{EntityId, FluxId, FluxMsg, Trace};
/// let mut msg = FluxMsg::new(FluxId::NIL, Trace::default(), EntityId::NIL, 0);
/// let kept = msg.clone();
/// msg.meta.set("site", "N1");
/// assert_eq!((kept.meta.get("site"), msg.meta.get("site")), (None, Some("N1")));
/// ```
#[derive(Clone)]
pub struct FluxMsg(Arc<Inner>);

/// The fields of a message, each with the key under which it travels.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Body {
    /// Names this message (key 0).
    pub id: FluxId,
    /// The message this one answers (key 1).
    pub reference: Option<FluxId>,
    /// Trace context (key 2).
    pub trace: Trace,
    /// The gear that made it (key 3).
    pub src: EntityId,
    /// When it was made, ns since the Unix epoch (key 4).
    pub ts: i64,
    /// Routing and context (key 5).
    pub meta: Meta,
    /// Business fields (key 6).
    pub data: Map,
    /// The bytes of an outside protocol it was read from (key 7).
    pub raw: Option<Bytes>,
    /// Where it has been, oldest first (key 8).
    pub path: Path,
    /// What the runtime knows about it (key 9).
    pub flags: Flags,
    /// Past this time no effect of it starts, ns since the Unix epoch (key 10).
    pub expires: Option<i64>,
    /// Where an answer goes; set at ingress, kept by everything derived (key 11).
    pub return_to: Option<Bytes>,
    /// Fields of later versions, kept as they came.
    pub unknown: Unknown,
}

/// Hops of a message. Eight stand inline, so a usual pipeline never allocates for them.
pub type Path = SmallVec<[Hop; 8]>;

/// One stop on the way of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Hop {
    /// The gear that emitted it.
    pub gear: EntityId,
    /// When, ns since the Unix epoch.
    pub ts: i64,
}

/// What is known beside the body, and how: both are facts about exactly this version of it.
struct Inner {
    body: Body,
    encoded: OnceLock<Bytes>,
    /// Extents of the content, without hops and numbers: those may change and it stays true.
    measured: Memo,
}

impl Body {
    /// A message without fields, hops or flags.
    #[inline]
    pub fn new(id: FluxId, trace: Trace, src: EntityId, ts: i64) -> Self {
        Self {
            id,
            reference: None,
            trace,
            src,
            ts,
            meta: Meta::default(),
            data: Map::default(),
            raw: None,
            path: Path::new(),
            flags: Flags::default(),
            expires: None,
            return_to: None,
            unknown: Unknown::default(),
        }
    }

    /// A copy whose hops are moved as one block and not one by one: this is done at nearly every hop.
    fn copied(&self) -> Self {
        self.copied_with(self.raw.clone())
    }

    fn copied_with(&self, raw: Option<Bytes>) -> Self {
        Self {
            path: Path::from_slice(&self.path),
            meta: self.meta.clone(),
            data: self.data.clone(),
            raw,
            return_to: self.return_to.clone(),
            unknown: self.unknown.clone(),
            ..*self
        }
    }

    fn measure(&self) -> Measure {
        let mut measure = Measure::default();
        measure.meta(&self.meta);
        measure.map(&self.data, 1);
        for bytes in self.raw.iter().chain(&self.return_to) {
            measure.string(bytes.len());
        }
        measure.add(self.unknown.measure());
        measure
    }
}

impl FluxMsg {
    /// A message without fields, hops or flags.
    #[inline]
    pub fn new(id: FluxId, trace: Trace, src: EntityId, ts: i64) -> Self {
        Body::new(id, trace, src, ts).into()
    }

    /// Whether the message is within limits, with room for all hops and numbers it may still get.
    ///
    /// The content is walked once per version; after that, also after [`FluxMsg::stamp`], this is a few comparisons.
    ///
    /// # Errors
    ///
    /// Names the place and the first limit it is over.
    pub fn check(&self, limits: &Limits) -> Result<(), LimitError> {
        let body = &self.0.body;
        if body.path.len() > limits.hops {
            return Err(LimitError::Hops { found: body.path.len(), limit: limits.hops });
        }
        let measure = self.0.measured.get_or_init(|| body.measure());
        if measure.fits(limits) { Ok(()) } else { Err(encode::blame(body, &measure, limits)) }
    }

    /// Bytes that its content takes when it is encoded, without the fixed fields and the hops. Measured once per version.
    pub fn content_bytes(&self) -> usize {
        self.0.measured.get_or_init(|| self.0.body.measure()).bytes
    }

    /// What the runtime changes at each emit: new id, source, one hop. Content and its check stay as they are.
    ///
    /// Costs the copy of the body when others hold the message, else nothing; fields are shared, not copied.
    pub fn stamp(&mut self, id: FluxId, src: EntityId, hop: Hop) {
        if let Some(Inner { body, encoded, .. }) = Arc::get_mut(&mut self.0) {
            encoded.take();
            body.id = id;
            body.src = src;
            body.path.push(hop);
            return;
        }
        // The new body is put together once, where copying and then changing it would move it three times.
        let old = &self.0.body;
        let mut path = Path::from_slice(&old.path);
        path.push(hop);
        let body = Body {
            id,
            src,
            path,
            meta: old.meta.clone(),
            data: old.data.clone(),
            raw: old.raw.clone(),
            return_to: old.return_to.clone(),
            unknown: old.unknown.clone(),
            ..*old
        };
        self.0 = Arc::new(Inner { body, encoded: OnceLock::new(), measured: self.0.measured.clone() });
    }

    /// Changes which message this one answers; content and its check stay as they are.
    pub fn set_reference(&mut self, reference: Option<FluxId>) {
        self.envelope().reference = reference;
    }

    /// Changes the trace context; content and its check stay as they are.
    pub fn set_trace(&mut self, trace: Trace) {
        self.envelope().trace = trace;
    }

    /// Changes until when effects may start; content and its check stay as they are.
    pub fn set_expires(&mut self, expires: Option<i64>) {
        self.envelope().expires = expires;
    }

    /// Changes where an answer goes. What is known about the rest of the content stays known.
    pub fn set_return_to(&mut self, return_to: Option<Bytes>) {
        let new = return_to.as_ref().map_or_else(Measure::default, |bytes| Measure::of_string(bytes.len()));
        let inner = self.inner();
        let old = std::mem::replace(&mut inner.body.return_to, return_to);
        inner.measured.replace(old.map_or(0, |bytes| Measure::of_string(bytes.len()).bytes), new);
    }

    /// Changes the bytes it was read from. What is known about the rest of the content stays known.
    pub fn set_raw(&mut self, raw: Option<Bytes>) {
        let bytes =
            |raw: &Option<Bytes>| raw.as_ref().map_or_else(Measure::default, |raw| Measure::of_string(raw.len()));
        let (old, new) = (bytes(&self.raw).bytes, bytes(&raw));
        if Arc::get_mut(&mut self.0).is_some() {
            self.inner().body.raw = raw;
        } else {
            // The first copy of bytes that were never shared costs an allocation, so the old ones are not copied.
            let (body, measured) = (self.0.body.copied_with(raw), self.0.measured.clone());
            self.0 = Arc::new(Inner { body, encoded: OnceLock::new(), measured });
        }
        self.inner().measured.replace(old, new);
    }

    /// Puts a value under a key of the first level of `data`. What is known about the rest of the content stays known,
    /// unless a map or an array stood there: nobody knows whether another one is as deep.
    pub fn set_data(&mut self, key: impl Into<SmolStr>, value: impl Into<Value>) {
        let (key, value): (SmolStr, Value) = (key.into(), value.into());
        let inner = self.inner();
        let data = &mut inner.body.data;
        if inner.measured.get().is_none() || matches!(data.get_key(&key), Some(Value::Map(_) | Value::Array(_))) {
            inner.measured.forget();
            data.insert_key(key, value);
            return;
        }
        let mut old = Measure::of_meta(data.len()).bytes;
        let mut new = Measure::of_entry(&key, &value, 1);
        if let Some(value) = data.get_key(&key) {
            old += Measure::of_entry(&key, value, 1).bytes;
        }
        data.insert_key(key, value);
        new.add(Measure::of_meta(data.len()));
        inner.measured.replace(old, new);
    }

    /// Puts a text into `meta`. What is known about the rest of the content stays known.
    pub fn set_meta(&mut self, key: impl Into<SmolStr>, text: impl Into<SmolStr>) {
        let (key, text): (SmolStr, SmolStr) = (key.into(), text.into());
        let inner = self.inner();
        let meta = &mut inner.body.meta;
        let before = meta.len();
        let (key_len, text_len) = (key.len(), text.len());
        let old = meta.set(key, text);
        let old = old.map_or(Measure::of_meta(before), |old| Measure::of_meta_entry(key_len, old.len(), before));
        inner.measured.replace(old.bytes, Measure::of_meta_entry(key_len, text_len, meta.len()));
    }

    /// Changes the flags; content and its check stay as they are.
    pub fn set_flags(&mut self, flags: Flags) {
        // A message that already has them is not copied.
        if self.flags != flags {
            self.envelope().flags = flags;
        }
    }

    /// The message with other flags.
    #[must_use]
    pub fn with_flags(mut self, flags: Flags) -> Self {
        self.set_flags(flags);
        self
    }

    /// How many hold it, this one included. A message with one holder is changed in place, without a copy.
    pub fn holders(&self) -> usize {
        Arc::strong_count(&self.0)
    }

    /// Whether both are the same allocation.
    pub fn ptr_eq(&self, other: &FluxMsg) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// For changes that leave the content alone: forgets the encoding, keeps the measure.
    fn envelope(&mut self) -> &mut Body {
        &mut self.inner().body
    }

    /// Forgets the encoding; what becomes of the measure is the caller's.
    fn inner(&mut self) -> &mut Inner {
        let inner = Arc::make_mut(&mut self.0);
        inner.encoded.take();
        inner
    }
}

impl Clone for Inner {
    /// Made only in order to be changed, so the encoding is not worth copying.
    fn clone(&self) -> Self {
        Self { body: self.body.copied(), encoded: OnceLock::new(), measured: self.measured.clone() }
    }
}

impl From<Body> for FluxMsg {
    #[inline]
    fn from(body: Body) -> Self {
        Self(Arc::new(Inner { body, encoded: OnceLock::new(), measured: Memo::default() }))
    }
}

impl Deref for FluxMsg {
    type Target = Body;

    fn deref(&self) -> &Body {
        &self.0.body
    }
}

impl DerefMut for FluxMsg {
    fn deref_mut(&mut self) -> &mut Body {
        let inner = self.inner();
        inner.measured.forget();
        &mut inner.body
    }
}

impl PartialEq for FluxMsg {
    fn eq(&self, other: &Self) -> bool {
        self.ptr_eq(other) || **self == **other
    }
}

impl Eq for FluxMsg {}

/// Keys, types and lengths, never values.
impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("FluxMsg");
        out.field("id", &self.id);
        if let Some(reference) = &self.reference {
            out.field("ref", reference);
        }
        if self.trace.is_set() {
            out.field("trace", &format_args!("{}", self.trace));
        }
        out.field("src", &self.src).field("ts", &self.ts).field("meta", &self.meta).field("data", &self.data);
        if let Some(raw) = &self.raw {
            out.field("raw", &Extent("bytes", raw.len()));
        }
        out.field("path", &Extent("hops", self.path.len()));
        if self.flags != Flags::default() {
            out.field("flags", &self.flags);
        }
        if let Some(expires) = &self.expires {
            out.field("expires", expires);
        }
        if let Some(return_to) = &self.return_to {
            out.field("return", &Extent("bytes", return_to.len()));
        }
        if !self.unknown.is_empty() {
            out.field("unknown", &self.unknown);
        }
        out.finish()
    }
}

impl fmt::Debug for FluxMsg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl fmt::Display for FluxMsg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Never alternate: a message in a log is one line.
        write!(f, "{:?}", **self)
    }
}

/// Marks that the runtime sets. Bits without a name are reserved and refused.
///
/// ```
/// # use fluxrig_protocol::Flags;
/// let flags = Flags::default().with(Flags::MAYBE_SENT);
/// assert!(flags.contains(Flags::MAYBE_SENT) && !flags.contains(Flags::PROBE));
/// assert!(Flags::from_bits(0b100).is_err());
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Flags(u64);

impl Flags {
    /// The message only tests the way: endpoints answer it or drop it, no effect leaves for it.
    pub const PROBE: Flags = Flags(1);
    /// The message was taken by an endpoint before a crash, so its effect may have happened.
    pub const MAYBE_SENT: Flags = Flags(1 << 1);

    const NAMED: u64 = Self::PROBE.0 | Self::MAYBE_SENT.0;

    /// Flags from the number that travels.
    ///
    /// # Errors
    ///
    /// When a reserved bit is set: a later version gave it a meaning that must not be dropped on the way.
    pub fn from_bits(bits: u64) -> Result<Self, ReservedFlags> {
        match bits & !Self::NAMED {
            0 => Ok(Self(bits)),
            reserved => Err(ReservedFlags { bits: reserved }),
        }
    }

    /// The number that travels.
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// Whether all flags of `other` are set.
    pub const fn contains(self, other: Flags) -> bool {
        self.0 & other.0 == other.0
    }

    /// These flags and those.
    #[must_use]
    pub const fn with(self, other: Flags) -> Self {
        Self(self.0 | other.0)
    }

    /// These flags but not those.
    #[must_use]
    pub const fn without(self, other: Flags) -> Self {
        Self(self.0 & !other.0)
    }
}

impl fmt::Debug for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = [(Self::PROBE, "probe"), (Self::MAYBE_SENT, "maybe sent")];
        f.debug_list().entries(named.iter().filter(|(flag, _)| self.contains(*flag)).map(|(_, name)| name)).finish()
    }
}

/// Flags that this version gives no meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("flags {bits:#x} are reserved, expected only bits 0 and 1; remedy: update this node, or clear them")]
pub struct ReservedFlags {
    /// The reserved bits that are set.
    pub bits: u64,
}

#[cfg(test)]
mod tests;
