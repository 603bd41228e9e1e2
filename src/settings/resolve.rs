//! From options as text to [`VolumeOptions`].
//!
//! Must not know: where the options came from. Invariant: what resolves makes a volume; everything that is wrong with
//! an option is found here, before anything is mounted.

use std::path::{Path, PathBuf};

use super::error::SettingsError;
use super::parse::{self, FilterPart, Parsed};
use super::{Opt, Settings};
use crate::model::{ModelConfig, StunTrigger};
use crate::options::{FilterOptions, StateFile, VolumeOptions};

/// What options are resolved against.
#[derive(Debug, Clone)]
pub struct Env {
    /// The real directory.
    pub backing: PathBuf,
    /// Where it is to be mounted.
    pub mountpoint: PathBuf,
    /// The seed if none is given.
    pub seed: u64,
    /// Finds a profile by name or file (`profiles::lookup`).
    pub profiles: fn(&str) -> Result<Settings, SettingsError>,
}

impl Settings {
    /// Everything that makes a volume. The profile's options come first, the others override them; paths are made
    /// absolute.
    pub fn resolve(&self, env: &Env) -> Result<VolumeOptions, SettingsError> {
        let all = self.expand(env.profiles)?;
        self.resolve_all(&all, env).map_err(|error| self.name_the_profile(error))
    }

    /// Where a wrong value stands, if it is not on the command line.
    fn name_the_profile(&self, error: SettingsError) -> SettingsError {
        let (Some(profile), SettingsError::Value { option, reason }) = (self.get(Opt::Profile), &error) else {
            return error;
        };
        match Opt::named(option).filter(|option| self.get(*option).is_none()) {
            Some(option) => SettingsError::value(option, format!("{reason} (in profile {profile})")),
            None => error,
        }
    }

    fn resolve_all(&self, all: &Self, env: &Env) -> Result<VolumeOptions, SettingsError> {
        let mut options = VolumeOptions::new(absolute(&env.backing), absolute(&env.mountpoint));
        options.profile = self.get(Opt::Profile).map(str::to_owned);
        options.model.seed = env.seed;
        all.apply_model(&mut options.model)?;
        options.filter = all.filter()?;
        all.apply_mount(&mut options)?;
        all.apply_output(&mut options)?;
        all.apply_surroundings(&mut options)?;
        options.model.clone().check().map_err(|error| SettingsError::Conflict(error.to_string()))?;
        Ok(options)
    }

    /// The profile's options with these over them; the same if no profile is given.
    pub fn expand(&self, profiles: fn(&str) -> Result<Self, SettingsError>) -> Result<Self, SettingsError> {
        match self.get(Opt::Profile) {
            Some(name) => Ok(profiles(name)?.merge(self)),
            None => Ok(self.clone()),
        }
    }

    /// Reads `option`'s text with `read`.
    fn read<T>(&self, option: Opt, read: impl FnOnce(&str) -> Parsed<T>) -> Result<Option<T>, SettingsError> {
        let Some(text) = self.get(option) else { return Ok(None) };
        read(text).map(Some).map_err(|error| SettingsError::value(option, error.to_string()))
    }

    /// Reads `option` into `into`, if it is given.
    fn take<T>(&self, option: Opt, into: &mut T, read: impl FnOnce(&str) -> Parsed<T>) -> Result<(), SettingsError> {
        if let Some(value) = self.read(option, read)? {
            *into = value;
        }
        Ok(())
    }

    /// As [`Settings::take`], for what may also be `none`.
    fn take_or_none<T>(
        &self,
        option: Opt,
        into: &mut Option<T>,
        read: impl FnOnce(&str) -> Parsed<T>,
    ) -> Result<(), SettingsError> {
        let or_none = |text: &str| if matches!(text, "none" | "off") { Ok(None) } else { read(text).map(Some) };
        self.take(option, into, or_none)
    }

    /// Puts every option that is given and concerns the model into `config`.
    pub(super) fn apply_model(&self, config: &mut ModelConfig) -> Result<(), SettingsError> {
        self.apply_penalty(config)?;
        self.apply_pool(config)?;
        self.apply_stuns(config)?;
        self.apply_limits(config)
    }

    fn apply_penalty(&self, config: &mut ModelConfig) -> Result<(), SettingsError> {
        let none_is_zero = |text: &str| parse::latency(if matches!(text, "none" | "off") { "0" } else { text });
        self.take(Opt::FirstWrite, &mut config.first_write, none_is_zero)?;
        self.take_or_none(Opt::Zeroing, &mut config.zeroing, str::parse)?;
        self.take(Opt::Lanes, &mut config.lanes, |text| parse::number(text, 1, 65536))?;
        self.take(Opt::Grain, &mut config.grain, str::parse)?;
        self.take_or_none(Opt::FirstRead, &mut config.first_read, parse::latency)?;
        self.take(Opt::Scope, &mut config.scope, parse::scope)
    }

    fn apply_pool(&self, config: &mut ModelConfig) -> Result<(), SettingsError> {
        self.take_or_none(Opt::Pool, &mut config.pool, str::parse)?;
        self.take_or_none(Opt::VirtualSize, &mut config.virtual_size, str::parse)?;
        self.take(Opt::OnFull, &mut config.on_full, parse::on_full)?;
        self.take(Opt::LowWater, &mut config.low_water_percent, parse::whole_percent)?;
        self.take(Opt::Thick, &mut config.thick, parse::flag)?;
        self.take(Opt::Cold, &mut config.cold, parse::flag)?;
        self.take(Opt::Discard, &mut config.discard, parse::flag)?;
        self.take(Opt::Fallocate, &mut config.fallocate_provisions, parse::fallocate)?;
        self.take(Opt::Placement, &mut config.placement, parse::placement)
    }

    fn apply_stuns(&self, config: &mut ModelConfig) -> Result<(), SettingsError> {
        type Trigger = (Opt, fn(&str) -> Parsed<StunTrigger>, fn(&StunTrigger) -> bool);
        let kinds: [Trigger; 3] = [
            (Opt::StunEvery, parse::stun_every, |stun| matches!(stun, StunTrigger::Every { .. })),
            (Opt::StunChance, parse::stun_chance, |stun| matches!(stun, StunTrigger::Chance { .. })),
            (Opt::StunWhen, parse::stun_when, |stun| matches!(stun, StunTrigger::QueueWait { .. })),
        ];
        for (option, read, same_kind) in kinds {
            let before = config.stuns.iter().find(|stun| same_kind(stun)).copied();
            let mut stun = before;
            self.take_or_none(option, &mut stun, read)?;
            if stun != before {
                config.stuns.retain(|stun| !same_kind(stun));
                config.stuns.extend(stun);
            }
        }
        Ok(())
    }

    fn apply_limits(&self, config: &mut ModelConfig) -> Result<(), SettingsError> {
        if let Some(disarmed) = self.read(Opt::Disarmed, parse::flag)? {
            config.armed = !disarmed;
        }
        if let Some(filters) = self.filters()? {
            config.share_percent = share(&filters);
        }
        self.take(Opt::MaxHold, &mut config.max_hold, parse::time_limit)?;
        self.take_or_none(Opt::Ttl, &mut config.ttl, parse::time_limit)?;
        self.take(Opt::Seed, &mut config.seed, parse::seed)
    }

    /// What `only` says; `None` if it is not given. `none` stands for no filter.
    pub(super) fn filters(&self) -> Result<Option<Vec<FilterPart>>, SettingsError> {
        let Some(texts) = self.all(Opt::Only) else { return Ok(None) };
        let filters = texts.iter().filter(|text| *text != "none").map(|text| parse::filter(text));
        let filters: Parsed<Vec<FilterPart>> = filters.collect();
        filters.map(Some).map_err(|error| SettingsError::value(Opt::Only, error.to_string()))
    }

    pub(super) fn filter(&self) -> Result<FilterOptions, SettingsError> {
        let mut options = FilterOptions::default();
        for filter in self.filters()?.into_iter().flatten() {
            match filter {
                FilterPart::Path(glob) => options.paths.push(glob),
                FilterPart::Comm(name) => options.comms.push(name),
                FilterPart::Uid(uid) => options.uids.push(uid),
                FilterPart::Share(_) => {}
            }
        }
        Ok(options)
    }

    /// What is frozen and what is listened to.
    fn apply_surroundings(&self, options: &mut VolumeOptions) -> Result<(), SettingsError> {
        options.freeze = self.read_all(Opt::Freeze, parse::freeze)?;
        options.guest_consoles = self.read_all(Opt::GuestConsole, parse::console)?;
        self.take(Opt::KernelLog, &mut options.kernel_log, parse::flag)?;
        self.take_or_none(Opt::HungTaskTimeout, &mut options.hung_task_timeout, parse::whole_seconds)
    }

    /// Every value of a repeatable option; `none` stands for no value.
    fn read_all<T>(&self, option: Opt, read: impl Fn(&str) -> Parsed<T>) -> Result<Vec<T>, SettingsError> {
        let texts = self.all(option).unwrap_or_default().iter().filter(|text| *text != "none");
        let values: Parsed<Vec<T>> = texts.map(|text| read(text)).collect();
        values.map_err(|error| SettingsError::value(option, error.to_string()))
    }

    fn apply_mount(&self, options: &mut VolumeOptions) -> Result<(), SettingsError> {
        self.take(Opt::Cache, &mut options.cache, parse::cache)?;
        self.take(Opt::QueueDepth, &mut options.queue_depth, |text| parse::number(text, 1, u16::MAX))?;
        self.take(Opt::Threads, &mut options.threads, |text| parse::number(text, 1, 64))?;
        self.take(Opt::LowLatency, &mut options.low_latency, parse::low_latency)?;
        self.take(Opt::HeldMemory, &mut options.held_memory, str::parse)?;
        self.take(Opt::AllowOther, &mut options.allow_other, parse::flag)?;
        self.take(Opt::ReadOnly, &mut options.read_only, parse::flag)?;
        self.take_or_none(Opt::Fsname, &mut options.fsname, parse::mount_name)
    }

    fn apply_output(&self, options: &mut VolumeOptions) -> Result<(), SettingsError> {
        self.take(Opt::State, &mut options.state, |text| match text {
            "none" => Ok(StateFile::None),
            "default" => Ok(StateFile::Default),
            _ => parse::file(text).map(StateFile::At),
        })?;
        self.take_or_none(Opt::Events, &mut options.events, parse::events)?;
        self.take_or_none(Opt::Control, &mut options.control, parse::socket)?;
        self.take_or_none(Opt::Metrics, &mut options.metrics, parse::address)
    }
}

/// The share that the filters leave; everything if they name none, since `only` is replaced as a whole.
fn share(filters: &[FilterPart]) -> f64 {
    let share = |filter: &FilterPart| if let FilterPart::Share(percent) = filter { Some(*percent) } else { None };
    filters.iter().rev().find_map(share).unwrap_or(100.0)
}

/// The path from the root on; as it is if the current directory is gone.
fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}
