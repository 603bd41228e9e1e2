//! The scenarios that come with stunfs.
//!
//! Must not know: how a scenario is run. Invariant: each can be read, and has a short form.

/// Their names and texts, in the order in which they are listed.
pub const SHIPPED: [(&str, &str); 6] = [
    ("log-rotation-burst", include_str!("../../scenarios/log-rotation-burst.yaml")),
    ("backup-at-night", include_str!("../../scenarios/backup-at-night.yaml")),
    ("pool-exhausted", include_str!("../../scenarios/pool-exhausted.yaml")),
    ("stun-ladder", include_str!("../../scenarios/stun-ladder.yaml")),
    ("restored-snapshot", include_str!("../../scenarios/restored-snapshot.yaml")),
    ("incident", include_str!("../../scenarios/incident.yaml")),
];

/// The text of the shipped scenario `name`.
pub fn text(name: &str) -> Option<&'static str> {
    SHIPPED.iter().find(|(known, _)| *known == name).map(|(_, text)| *text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::{Override, read};

    #[test]
    fn every_shipped_scenario_is_read_and_has_a_short_form() {
        for (name, text) in SHIPPED {
            let scenario = read(name, text, &[], crate::profiles::lookup).unwrap();
            assert_eq!(scenario.metadata.name, name);
            assert!(scenario.metadata.description.len() > 40, "{name}");
            let short: Vec<Override> = scenario.spec.short.iter().map(|change| change.parse().unwrap()).collect();
            assert!(!short.is_empty() && !scenario.spec.expect.is_empty(), "{name}");
            let short = read(name, text, &short, crate::profiles::lookup).unwrap();
            assert!(short.spec.duration < scenario.spec.duration, "{name}");
        }
    }
}
