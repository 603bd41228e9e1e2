//! `stunfs profiles`: the built-in profiles as a table, or one with its file and what it resolves to.
//!
//! Must not know: what options mean. Invariant: everything shown comes from the profile's own file.

use std::path::Path;

use clap::Args;
use serde::Serialize;
use serde_json::json;
use stunfs::internal::model::{ModelConfig, StunTrigger};
use stunfs::internal::profiles::{self, Profile};
use stunfs::internal::settings::{Opt, Settings};

use super::exit::FINE;
use super::output::{self, TextTable};
use super::suggest::Suggested;
use super::volume_args;

/// `stunfs profiles`
#[derive(Debug, Args)]
pub(crate) struct ProfilesArgs {
    /// A profile, or the path of a profile's file
    #[arg(hide_possible_values = true, value_parser = Suggested::new(profiles::names()))]
    name: Option<String>,
    /// As JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &ProfilesArgs) -> anyhow::Result<u8> {
    match (&args.name, args.json) {
        (None, false) => {
            output::print(&table(&profiles::built_in()?))?;
        }
        (None, true) => output::print_json(&profiles::built_in()?)?,
        (Some(name), json) => show(&profiles::find(name)?, json)?,
    }
    Ok(FINE)
}

fn table(profiles: &[Profile]) -> String {
    let mut table = TextTable::new(["NAME", "GRAIN", "FIRST WRITE", "LANES", "WHEN FULL", "IMITATES"]);
    for profile in profiles {
        let cell = |option| profile.value(option).unwrap_or("-").to_owned();
        let title = profile.description.split(". ").next().unwrap_or_default().trim_end_matches('.');
        let columns = [Opt::Grain, Opt::FirstWrite, Opt::Lanes, Opt::OnFull].map(cell);
        let [grain, first_write, lanes, on_full] = columns;
        table.row([profile.name.clone(), grain, first_write, lanes, on_full, title.to_owned()]);
    }
    format!("{}\n'stunfs profiles NAME' shows every figure with its source.\n", table.text())
}

fn show(profile: &Profile, json: bool) -> anyhow::Result<()> {
    let settings = Settings::new().with(Opt::Profile, &profile.name).with(Opt::Seed, "0");
    let model = volume_args::resolve(&settings, Path::new("/"), Path::new("/"))?.model;
    if json {
        return output::print_json(&json!({ "profile": profile, "resolved": model }));
    }
    output::print(&text(profile, &model))?;
    Ok(())
}

/// A valid profile: its file, and what it resolves to as comments.
fn text(profile: &Profile, model: &ModelConfig) -> String {
    let resolved: String = resolved(model).lines().map(|line| format!("# {line}\n")).collect();
    format!("# {}\n{}\n\n# What it resolves to:\n{resolved}", profile.name, profile.text.trim_end())
}

/// Every option of the model with the value that holds, under the names of the command line.
fn resolved(model: &ModelConfig) -> String {
    let mut text = String::new();
    for (option, value) in values(model) {
        text.push_str(&format!("{:<13} {value}\n", option.name()));
    }
    for stun in &model.stuns {
        text.push_str(&format!("{:<13} {}\n", "stun", stun_text(stun)));
    }
    text
}

fn values(model: &ModelConfig) -> Vec<(Opt, String)> {
    vec![
        (Opt::FirstWrite, model.first_write.to_string()),
        (Opt::Zeroing, or_none(model.zeroing.as_ref())),
        (Opt::Lanes, model.lanes.to_string()),
        (Opt::Grain, model.grain.to_string()),
        (Opt::FirstRead, or_none(model.first_read.as_ref())),
        (Opt::Scope, word(&model.scope)),
        (Opt::Pool, or_none(model.pool.as_ref())),
        (Opt::VirtualSize, or_none(model.virtual_size.as_ref())),
        (Opt::OnFull, model.on_full.to_string()),
        (Opt::LowWater, format!("{}%", model.low_water_percent)),
        (Opt::Thick, model.thick.to_string()),
        (Opt::Cold, model.cold.to_string()),
        (Opt::Discard, model.discard.to_string()),
        (Opt::Fallocate, if model.fallocate_provisions { "provisions" } else { "ignores" }.to_owned()),
        (Opt::Placement, word(&model.placement)),
        (Opt::MaxHold, output::time(model.max_hold)),
        (Opt::Ttl, model.ttl.map_or_else(|| "none".to_owned(), output::time)),
    ]
}

fn or_none<T: ToString>(value: Option<&T>) -> String {
    value.map_or_else(|| "none".to_owned(), ToString::to_string)
}

/// The word that an enumeration has in files.
fn word(value: &impl Serialize) -> String {
    serde_norway::to_string(value).unwrap_or_default().trim().to_owned()
}

fn stun_text(stun: &StunTrigger) -> String {
    match stun {
        StunTrigger::Every { grains, duration } => {
            format!("of {} after every {grains} grains", output::time(*duration))
        }
        StunTrigger::Chance { probability, duration } => {
            format!("of {} with probability {probability} at each grain", output::time(*duration))
        }
        StunTrigger::QueueWait { over, duration } => {
            format!("of {} when the queue's wait passes {}", output::time(*duration), output::time(*over))
        }
    }
}
