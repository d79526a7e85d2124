//! Every gear we ship, in one visible value: a gear that is not in this list does not exist for a scenario.

use fluxrig_actors::{About, Catalog, Category, Maturity};

use crate::{Codec, Conductor, FileSink, Generator, Host, IoIso8583, IoTcp, Log, Mapping, Reply};

/// Every gear we ship, in the order the manual lists them.
///
/// ```
/// let names: Vec<_> = fluxrig_gears::standard().manifests().map(|gear| gear.type_name).collect();
/// assert_eq!(names[..5], ["map", "conductor", "codec_iso8583", "iso8583_reply", "iso8583_host"]);
/// assert_eq!(names[5..], ["log", "generator", "file", "io_tcp", "io_iso8583"]);
/// ```
#[must_use]
pub fn standard() -> Catalog {
    Catalog::new()
        .with::<Mapping>(About { category: Category::Logic, maturity: Maturity::Preview })
        .with::<Conductor>(About { category: Category::Logic, maturity: Maturity::Preview })
        .with::<Codec>(About { category: Category::Codec, maturity: Maturity::Preview })
        .with::<Reply>(About { category: Category::Logic, maturity: Maturity::Preview })
        .with::<Host>(About { category: Category::Logic, maturity: Maturity::Preview })
        .with::<Log>(About { category: Category::Observability, maturity: Maturity::Preview })
        .with_endpoint::<Generator>(About { category: Category::Io, maturity: Maturity::Preview })
        .with_endpoint::<FileSink>(About { category: Category::Io, maturity: Maturity::Preview })
        .with_endpoint::<IoTcp>(About { category: Category::Io, maturity: Maturity::Preview })
        .with_endpoint::<IoIso8583>(About { category: Category::Io, maturity: Maturity::Preview })
}

#[cfg(test)]
mod tests;
