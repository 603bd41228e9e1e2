//! What users and scenarios tell a running volume.
//!
//! Must not know: who commands. Invariant: a command is in force when it returns, and what it lets go is in `out`.

use std::time::Duration;

use super::Model;
use super::config::{CheckedConfig, ConfigError, ModelConfig};
use super::op::{Release, StunCause};
use crate::time::SimTime;
use crate::units::Bytes;

impl Model {
    /// Holds everything for `duration`, `None`: until [`Model::resume`]; at most `max_hold` since the stun began.
    /// Its end. A second stun makes the first longer, never shorter.
    ///
    /// While injection is off it does nothing, and the end is `now`.
    pub fn stun(&mut self, now: SimTime, duration: Option<Duration>) -> SimTime {
        let now = self.arrive(now);
        if !self.injecting(now) {
            return now;
        }
        self.begin_stun(now, duration.unwrap_or(self.config.max_hold), StunCause::Manual)
    }

    /// Ends the stun in force, if any.
    pub fn resume(&mut self, now: SimTime, out: &mut Vec<Release>) {
        self.handle_timeout(now, out);
        self.end_stun(self.clock);
        self.handle_timeout(now, out);
    }

    /// Ends all injection: everything that is held comes out with success (what has an error already keeps it), a stun
    /// is over, injection is off until it is armed again.
    pub fn release_all(&mut self, now: SimTime, out: &mut Vec<Release>) {
        self.handle_timeout(now, out);
        self.drain(self.clock, out);
    }

    /// Switches injection on or off. Off ends a stun and lets go who waits for space; what else is held keeps its time.
    /// After the time limit (`ttl`) arming has no effect, which [`Model::snapshot`] shows.
    pub fn set_armed(&mut self, now: SimTime, armed: bool, out: &mut Vec<Release>) {
        self.handle_timeout(now, out);
        if !armed {
            self.end_stun(self.clock);
            self.release_waiters(self.clock);
        }
        self.config.armed = armed && !self.expired;
        self.handle_timeout(now, out);
    }

    /// Takes over another configuration; placement, grain, seed, thick and cold cannot change, and the pool cannot be
    /// smaller than what is in use. What is held keeps its time, but for a new `max_hold`. A new `ttl` counts from
    /// `now`; `armed` as in [`Model::set_armed`].
    pub fn reconfigure(
        &mut self,
        now: SimTime,
        config: CheckedConfig,
        out: &mut Vec<Release>,
    ) -> Result<(), ConfigError> {
        self.config.allows(&config)?;
        self.check_pool(config.pool)?;
        self.handle_timeout(now, out);
        let now = self.clock;
        if config.ttl != self.config.ttl {
            self.expires_at = config.ttl.map(|ttl| now + ttl);
        }
        let armed = config.armed;
        self.config = ModelConfig { armed: self.config.armed, ..config.into() };
        self.apply_config(now);
        self.serve_waiters(now);
        self.tell_low_water(now);
        self.set_armed(now, armed, out);
        Ok(())
    }

    /// Hands the configuration on to the parts that keep some of it.
    fn apply_config(&mut self, now: SimTime) {
        let config = &self.config;
        self.zeroing = Self::zeroing_time(config);
        self.lanes.resize(config.lanes);
        self.pool.set_low_water(config.low_water_percent);
        self.pool.resize(config.pool);
        self.stun.limit(now, config.max_hold);
        self.queue.set_max_hold(now, config.max_hold);
        let queue = &self.queue;
        self.waiters.set_limits(|id| queue.limit_of(queue.requested(id).unwrap_or(SimTime::ZERO)));
    }

    /// Gives the pool a new size, at least what is in use; who waits for space gets it, in order of arrival.
    pub fn grow(&mut self, now: SimTime, pool: Bytes, out: &mut Vec<Release>) -> Result<(), ConfigError> {
        let config = ModelConfig { pool: Some(pool), ..self.config.clone() }.check()?;
        self.check_pool(config.pool)?;
        self.handle_timeout(now, out);
        self.config = config.into();
        self.pool.resize(Some(pool));
        self.serve_waiters(self.clock);
        self.tell_low_water(self.clock);
        self.handle_timeout(now, out);
        Ok(())
    }

    fn check_pool(&self, pool: Option<Bytes>) -> Result<(), ConfigError> {
        let used = Bytes(self.pool.used_bytes());
        match pool {
            Some(pool) if pool < used && Some(pool) != self.config.pool => {
                Err(ConfigError::new(format!("pool {pool} is smaller than what is in use; write a size from {used}")))
            }
            _ => Ok(()),
        }
    }

    /// Hands grains that no file uses back to the pool (`fstrim`); how many.
    pub fn discard(&mut self, now: SimTime) -> u64 {
        let now = self.arrive(now);
        if self.config.thick {
            return 0;
        }
        let freed = self.mapping.discard();
        self.give_back(now, &freed);
        freed.grains
    }
}
