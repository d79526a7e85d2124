//! The journal of a rack on its stream, looked at by somebody who does not run it: whether the rack runs or not, nothing
//! of the stream and of the data directory is changed.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use fluxrig_actors::RigError;
use fluxrig_actors::bus::{Bus, BusOptions, Secret};
use fluxrig_actors::journal::stream::{StreamReport, verify_stream};
use fluxrig_actors::journal::{RealDisk, rack_id};

use crate::RackError;
use crate::bus::{Keeping, Place, Server};
use crate::rack::JOURNAL_DIR;
use crate::scenario::{Checked, ManagedBus};

/// How long the servers may take to be there.
const SERVERS_WAIT: Duration = Duration::from_secs(5);

/// Reads the whole stream of a rack of this scenario. A server that this rack runs itself is started for as long as that
/// takes, unless the rack runs it at this moment.
///
/// # Errors
/// When there is no such stream, or it cannot be read. What is wrong with it is in the report.
pub async fn inspect_stream(
    checked: &Checked,
    rack: Option<&str>,
    data_dir: &Path,
    guard: Option<PathBuf>,
) -> Result<StreamReport, RackError> {
    let called = checked.rack_name(rack)?;
    let dir = data_dir.join(JOURNAL_DIR);
    let disk = RealDisk::open(&dir).map_err(|source| RackError::DataDir { dir: dir.display().to_string(), source })?;
    let (options, keeping) = match checked.scenario.bus.managed_by(&called) {
        Some(managed) => own(managed, &called, data_dir, guard).await?,
        None => {
            let elsewhere = checked.scenario.bus.elsewhere();
            (elsewhere.expect("a scenario without a bus whose journal is there is refused"), None)
        }
    };
    let bus = Bus::start(options, &called);
    let report = match bus.journal_to_read(SERVERS_WAIT).await {
        Ok(log) => {
            let read = verify_stream(Arc::new(disk), log, rack_id(&called)).await;
            read.map_err(|error| RigError::from(error).into())
        }
        Err(error) => Err(RackError::StreamJournal(error)),
    };
    if let Some(keeping) = keeping {
        keeping.stop().await;
    }
    report
}

/// The server of this very rack.
async fn own(
    managed: &ManagedBus,
    rack: &str,
    data_dir: &Path,
    guard: Option<PathBuf>,
) -> Result<(BusOptions, Option<Keeping>), RackError> {
    if let Some(kept) = Place::of_running(data_dir) {
        let address = std::net::SocketAddr::new(managed.host, kept.port);
        let at = BusOptions::at([format!("nats://{address}")]);
        return Ok((BusOptions { token: Some(Secret::new(kept.token)), ..at }, None));
    }
    let (server, keeping) = Server::start(managed, rack, data_dir, guard).await?;
    Ok((server.options(managed), Some(keeping)))
}
