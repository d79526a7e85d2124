//! A picture of a scenario as text: Mermaid or DOT. Gears are boxes, wires are arrows: those in memory dotted,
//! those over the bus thick.

use super::{Checked, LaneChoice, WireEntry};

/// Language of a picture.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GraphFormat {
    /// Mermaid, which many web pages draw by themselves.
    #[default]
    Mermaid,
    /// DOT, for Graphviz.
    Dot,
}

impl Checked {
    /// The gears and wires as a graph.
    #[must_use]
    pub fn graph(&self, format: GraphFormat) -> String {
        match format {
            GraphFormat::Mermaid => self.mermaid(),
            GraphFormat::Dot => self.dot(),
        }
    }

    fn mermaid(&self) -> String {
        let mut out = String::from("flowchart LR\n");
        // A name may be a word of the language, `end` for instance; numbers are not.
        for (idx, gear) in self.scenario.gears.iter().enumerate() {
            out.push_str(&format!("    g{idx}[\"{}<br/>{}\"]\n", gear.name, gear.type_name));
        }
        for wire in &self.scenario.wires {
            let arrow = match self.line(wire) {
                Line::Plain => "-->",
                Line::Turbo => "-.->",
                Line::Bus => "==>",
            };
            let ends = self.ends(wire);
            out.push_str(&format!("    g{} {arrow}|\"{}\"| g{}\n", ends.from_idx, ends.label, ends.to_idx));
        }
        out
    }

    fn dot(&self) -> String {
        let mut out = format!("digraph \"{}\" {{\n    rankdir=LR;\n    node [shape=box];\n", self.scenario.meta.name);
        for gear in &self.scenario.gears {
            out.push_str(&format!("    \"{}\" [label=\"{0}\\n{}\"];\n", gear.name, gear.type_name));
        }
        for wire in &self.scenario.wires {
            let style = match self.line(wire) {
                Line::Plain => "",
                Line::Turbo => ", style=dotted",
                Line::Bus => ", style=bold",
            };
            let ends = self.ends(wire);
            let gears = &self.scenario.gears;
            let (from, to) = (&gears[ends.from_idx].name, &gears[ends.to_idx].name);
            out.push_str(&format!("    \"{from}\" -> \"{to}\" [label=\"{}\"{style}];\n", ends.label));
        }
        out.push_str("}\n");
        out
    }

    fn line(&self, wire: &WireEntry) -> Line {
        match wire.lane {
            LaneChoice::Turbo => Line::Turbo,
            LaneChoice::Standard if self.is_on_bus(wire) => Line::Bus,
            LaneChoice::Standard => Line::Plain,
        }
    }

    fn ends(&self, wire: &WireEntry) -> Ends {
        let name = self.wire_name(wire);
        let (from, to) = name.split_once("->").unwrap_or((&name, ""));
        let part = |end: &str| {
            let (gear, port) = end.split_once('.').unwrap_or((end, ""));
            let idx = self.scenario.gears.iter().position(|entry| entry.name.as_str() == gear).unwrap_or(0);
            (idx, port.to_owned())
        };
        let ((from_idx, from_port), (to_idx, to_port)) = (part(from), part(to));
        Ends { from_idx, to_idx, label: format!("{from_port} to {to_port}") }
    }
}

/// How a wire is drawn.
enum Line {
    Plain,
    Turbo,
    Bus,
}

/// A wire's ends as positions of gears, and its ports.
struct Ends {
    from_idx: usize,
    to_idx: usize,
    label: String,
}
