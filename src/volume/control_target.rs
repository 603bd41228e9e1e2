//! The volume as the control socket and the metrics port see it.
//!
//! Must not know: what commands do. Invariant: the servers start after the mount, and only as far as options ask for them.

use std::sync::Arc;

use super::commands;
use super::error::VolumeError;
use super::inner::Inner;
use crate::control::{Command, ControlHandler, ControlRefusal, ControlServer, MetricsServer, Reply};
use crate::telemetry::events::EventLog;
use crate::telemetry::metrics::Mirrored;

/// Starts the control socket and the metrics port, as far as they are asked for.
pub(super) fn start_servers(inner: &Arc<Inner>) -> Result<(), VolumeError> {
    let target: Arc<dyn ControlHandler> = Arc::new(ControlledVolume(Arc::clone(inner)));
    let mut servers = inner.servers.lock();
    if let Some(path) = &inner.options.control {
        let server = ControlServer::start(path, Arc::clone(&target))?;
        servers.control = Some(server);
    }
    if let Some(address) = inner.options.metrics {
        servers.metrics = Some(MetricsServer::start(address, target)?);
    }
    Ok(())
}

struct ControlledVolume(Arc<Inner>);

impl ControlHandler for ControlledVolume {
    fn execute(&self, command: Command) -> Result<Reply, ControlRefusal> {
        commands::execute(&self.0, command)
    }

    fn events(&self) -> EventLog {
        self.0.observer.log.clone()
    }

    fn metrics(&self) -> String {
        let now = self.0.engine.status();
        let mirrored = Mirrored {
            held_memory_bytes: now.held_memory,
            held_spill_bytes: now.held_spilled,
            events: self.0.observer.log.counts(),
        };
        self.0.observer.metrics.render(&now.model, &mirrored)
    }
}
