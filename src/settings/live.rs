//! Which options can change while a volume is mounted (`ctl set`), and the change itself.
//!
//! Must not know: the engine, the control socket. Invariant: either every option given is taken over, or none.

use super::error::SettingsError;
use super::{Opt, Settings};
use crate::model::{CheckedConfig, ModelConfig};
use crate::options::FilterOptions;

impl Settings {
    /// `current` with these options changed. Refuses what is fixed at mount and says why.
    pub fn apply_live(&self, current: &ModelConfig) -> Result<CheckedConfig, SettingsError> {
        for (option, _) in self.iter() {
            if let Some(reason) = option.spec().fixed {
                return Err(SettingsError::Fixed { option: option.name(), reason });
            }
        }
        let mut config = current.clone();
        self.apply_model(&mut config)?;
        config.check().map_err(|error| SettingsError::Conflict(error.to_string()))
    }

    /// The filter from now on; `None` if `only` is not among these options.
    pub fn live_filter(&self) -> Result<Option<FilterOptions>, SettingsError> {
        self.all(Opt::Only).map(|_| self.filter()).transpose()
    }
}
