//! The named one-way ports of a gear, and which output each input feeds.

use smol_str::SmolStr;

/// The usual name of a gear's only input.
pub const IN: &str = "in";
/// The usual name of a gear's only output.
pub const OUT: &str = "out";

/// One input port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Input {
    /// Name, unique among the gear's inputs.
    pub name: SmolStr,
    /// Carries answers to what this gear sent: served before timers and requests (HEART §3.4).
    pub is_reply: bool,
    /// Outputs that a message from this input can cause; `None` means every output.
    pub feeds: Option<Vec<SmolStr>>,
    /// A scenario that leaves it unwired is refused.
    pub is_required: bool,
}

/// One output port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// Name, unique among the gear's outputs.
    pub name: SmolStr,
    /// A scenario that leaves it unwired is refused.
    pub is_required: bool,
}

/// The ports of one gear, in the order its manual lists them. The first output is where `emit` goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ports {
    /// Input ports.
    pub inputs: Vec<Input>,
    /// Output ports.
    pub outputs: Vec<Output>,
}

impl Ports {
    /// No ports at all, to build on.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// `in` and `out`: what most gears have.
    #[must_use]
    pub fn pipe() -> Self {
        Self::none().input(IN).output(OUT)
    }

    /// Only `in`: a sink.
    #[must_use]
    pub fn sink() -> Self {
        Self::none().input(IN)
    }

    /// Only `out`: a source.
    #[must_use]
    pub fn source() -> Self {
        Self::none().output(OUT)
    }

    /// Adds an input that feeds every output.
    #[must_use]
    pub fn input(mut self, name: &str) -> Self {
        self.inputs.push(Input { name: name.into(), is_reply: false, feeds: None, is_required: true });
        self
    }

    /// Adds an input that feeds only the named outputs.
    #[must_use]
    pub fn input_feeding(mut self, name: &str, feeds: &[&str]) -> Self {
        let feeds = Some(feeds.iter().map(|&name| name.into()).collect());
        self.inputs.push(Input { name: name.into(), is_reply: false, feeds, is_required: true });
        self
    }

    /// Adds a reply input that feeds only the named outputs: a gear with reply ports says what each input feeds.
    #[must_use]
    pub fn reply(mut self, name: &str, feeds: &[&str]) -> Self {
        let feeds = Some(feeds.iter().map(|&name| name.into()).collect());
        self.inputs.push(Input { name: name.into(), is_reply: true, feeds, is_required: true });
        self
    }

    /// Adds an output that may stay unwired: what is emitted there is then counted and dropped.
    #[must_use]
    pub fn output(mut self, name: &str) -> Self {
        self.outputs.push(Output { name: name.into(), is_required: false });
        self
    }

    /// Position of an input, if there is one of this name.
    #[must_use]
    pub fn input_idx(&self, name: &str) -> Option<usize> {
        self.inputs.iter().position(|port| port.name == name)
    }

    /// Position of an output, if there is one of this name.
    #[must_use]
    pub fn output_idx(&self, name: &str) -> Option<usize> {
        self.outputs.iter().position(|port| port.name == name)
    }

    /// Whether a message from input `input_idx` can cause one at output `output_idx`.
    #[must_use]
    pub fn feeds(&self, input_idx: usize, output_idx: usize) -> bool {
        match &self.inputs[input_idx].feeds {
            None => true,
            Some(names) => names.contains(&self.outputs[output_idx].name),
        }
    }
}
