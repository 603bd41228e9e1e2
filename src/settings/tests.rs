use std::path::PathBuf;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::model::{ModelConfig, OnFull, StunTrigger};
use crate::options::{StateFile, VolumeOptions};

fn no_profiles(name: &str) -> Result<Settings, SettingsError> {
    Err(SettingsError::unknown_profile(name, ["thick"].into_iter()))
}

fn env() -> Env {
    Env { backing: PathBuf::from("/b"), mountpoint: PathBuf::from("/m"), seed: 7, profiles: no_profiles }
}

fn resolve(list: &str) -> Result<VolumeOptions, SettingsError> {
    parse_mount_options(list)?.settings.resolve(&env())
}

#[test]
fn what_is_around_the_volume() {
    let list = "freeze=cgroup:a/b,freeze=pid:7,freeze=qmp:/tmp/q,guest_console=unix:/tmp/s,guest_console=/tmp/f,\
                kernel_log,hung_task_timeout=5s";
    let options = resolve(list).unwrap();
    let targets: Vec<String> = options.freeze.iter().map(ToString::to_string).collect();
    assert_eq!(targets, ["cgroup:a/b", "pid:7", "qmp:/tmp/q"]);
    assert_eq!(options.guest_consoles, ["/tmp/s", "/tmp/f"].map(PathBuf::from));
    assert!(options.kernel_log && options.hung_task_timeout == Some(Duration::from_secs(5)));
}

#[test]
fn the_table_is_in_the_order_of_the_options() {
    for (index, spec) in OPTIONS.iter().enumerate() {
        assert_eq!(spec.option as usize, index, "{}", spec.name);
        assert_eq!(Opt::named(&spec.name.replace('-', "_")), Some(spec.option));
    }
}

#[test]
fn the_manual_has_every_option() {
    let manual = include_str!("../../docs/options.md");
    for spec in &OPTIONS {
        assert!(manual.contains(&format!("| `{}`", spec.name)), "{} is not in docs/options.md", spec.name);
    }
}

#[test]
fn nothing_given_is_a_volume_without_injection() {
    let mut expected = VolumeOptions::new("/b", "/m");
    expected.model.seed = 7;
    assert_eq!(Settings::new().resolve(&env()).unwrap(), expected);
}

#[test]
fn every_option_arrives() {
    let options = resolve(
        "first_write=20ms,zeroing=200MiB/s,lanes=4,grain=64KiB,pool=20GiB,virtual_size=10GiB,on_full=queue:60s,low_water=5%,\
         stun_every=10:2s,stun_chance=1%,stun_when=wait>5s:3s,scope=volume,only=path=/log/**,only=uid=0,only=comm=tar,\
         only=share=50%,first_read=1ms,disarmed,placement=direct,discard,fallocate=provisions,thick,cache=back,\
         seed=0xff,events=/e,control=/c,metrics=:9100,ttl=1h,max_hold=5m,allow_other,threads=2,low_latency=off,queue_depth=64,\
         held_memory=1MiB,state=none,ro,fsname=x",
    )
    .unwrap();
    let model = &options.model;
    assert_eq!(model.on_full, OnFull::Queue(Duration::from_secs(60)));
    assert_eq!(model.stuns.len(), 3);
    assert_eq!(model.stuns[1], StunTrigger::Chance { probability: 0.01, duration: DEFAULT_STUN });
    assert_eq!((model.seed, model.lanes, model.low_water_percent, model.armed), (255, 4, 5, false));
    assert_eq!((model.max_hold, model.ttl), (Duration::from_secs(300), Some(Duration::from_secs(3600))));
    assert!((model.share_percent - 50.0).abs() < 1e-9);
    assert_eq!(options.filter.paths, ["/log/**"]);
    assert_eq!((options.filter.uids.as_slice(), options.filter.comms.len()), ([0].as_slice(), 1));
    assert_eq!(options.metrics.unwrap().to_string(), "127.0.0.1:9100");
    assert_eq!((options.state, options.read_only, options.allow_other), (StateFile::None, true, true));
    assert_eq!((options.queue_depth, options.threads, options.fsname.as_deref()), (64, 2, Some("x")));
    assert_eq!(options.low_latency, crate::options::LowLatency::Off);
    assert!(model.thick && resolve("cold").unwrap().model.cold);
}

/// They were refused only when the volume was mounted.
#[test]
fn regression_thick_and_cold_are_refused_where_options_are_read() {
    let error = resolve("thick,cold").unwrap_err().to_string();
    assert!(error.contains("thick (all has space) and cold (nothing has space) exclude each other"), "{error}");
}

#[test]
fn wrong_values_are_named_with_what_is_allowed() {
    let cases = [
        ("first_write=20", "first-write: '20' has no unit"),
        ("zeroing=20", "zeroing: '20' is not a rate"),
        ("lanes=0", "lanes: '0' is not a whole number from 1 to 65536"),
        ("grain=5000B", "grain: grain 5000B is not a multiple of 4KiB"),
        ("pool=10", "pool: '10' has no unit"),
        ("on_full=panic", "on-full: 'panic' is not one of enospc, stun, queue:60s"),
        ("on_full=queue", "write queue:60s"),
        ("low_water=10", "low-water: '10' is not a whole share"),
        ("stun_every=0", "stun-every: '0'"),
        ("stun_chance=0.5", "stun-chance: '0.5' is not a share"),
        ("stun_when=5s", "stun-when: '5s' is not a condition"),
        ("scope=all", "scope: 'all' is not one of op, volume"),
        ("only=name=x", "only: 'name=x' is not one of path=GLOB"),
        ("only=path=[", "only: path '[' is not a pattern"),
        ("only=comm=prometheus-server", "write comm=prometheus-serv"),
        ("freeze=vm:x", "freeze: cannot freeze 'vm:x': there is no such kind; allowed are cgroup:PATH"),
        ("freeze=pid:0", "freeze: cannot freeze 'pid:0'"),
        ("hung_task_timeout=1500ms", "hung-task-timeout: '1500ms' is not a whole number of seconds"),
        ("guest_console=", "guest-console: '' is not the path of a file"),
        ("only=uid=-1", "only: '-1' is not a whole number"),
        ("disarmed=maybe", "disarmed: 'maybe' is neither on nor off"),
        ("cache=fast", "cache: 'fast' is not one of through, back, direct"),
        ("seed=x", "seed: 'x' is not a seed"),
        ("metrics=here", "metrics: 'here' is not an address"),
        ("ttl=0", "ttl: '0' is no time limit"),
        ("threads=65", "from 1 to 64"),
        ("queue_depth=0", "from 1 to 65535"),
        ("profile=thik", "did you mean 'thick'?"),
        ("frist_write=1ms", "no option is called 'frist_write'; did you mean 'first-write'?"),
        ("grain=\"1MiB", "a quote is not closed"),
    ];
    for (list, expected) in cases {
        let error = resolve(list).unwrap_err().to_string();
        assert!(error.contains(expected), "{list}: {error}");
        assert!(!error.contains('\n'), "{error}");
    }
}

#[test]
fn mount_lists_keep_commas_that_belong_to_a_value() {
    let first_write = |list: &str| parse_mount_options(list).unwrap().settings.get(Opt::FirstWrite).map(str::to_owned);
    assert_eq!(first_write("rw,first_write=lognormal:8ms,p99=200ms,lanes=2").unwrap(), "lognormal:8ms,p99=200ms");
    assert_eq!(first_write("first_write=bimodal:5ms,2s@1%").unwrap(), "bimodal:5ms,2s@1%");
    assert_eq!(first_write("first_write=file:/a\\,b").unwrap(), "file:/a,b");
    let only = parse_mount_options("only=\"path=*.{log,tmp}\"").unwrap().settings;
    assert_eq!(only.get(Opt::Only), Some("path=*.{log,tmp}"));
}

#[test]
fn generic_mount_options_mean_nothing() {
    let options = parse_mount_options(
        "rw,defaults,noauto,_netdev,nofail,x-systemd.automount,X-a=b,nosuid,dev,subtype=stunfs,relatime,,ro",
    )
    .unwrap();
    assert_eq!(options.settings, Settings::new().with(Opt::ReadOnly, "true"));
    assert!(parse_mount_options("remount,ro").unwrap().remount);
}

#[test]
fn the_later_value_wins_and_lists_are_replaced_whole() {
    let base = Settings::new().with(Opt::Lanes, "1").with(Opt::Only, "uid=0").with(Opt::Only, "uid=1");
    let merged = base.merge(&Settings::new().with(Opt::Only, "uid=2").with(Opt::Lanes, "9"));
    assert_eq!((merged.get(Opt::Lanes), merged.all(Opt::Only)), (Some("9"), Some(["uid=2".to_owned()].as_slice())));
}

#[test]
fn json_takes_numbers_lists_and_null() {
    let settings: Settings = serde_json::from_str(
        r#"{"first_write":"1ms","lanes":4,"only":["uid=0","share=5%"],"discard":true,"ttl":null}"#,
    )
    .unwrap();
    assert_eq!(settings.get(Opt::Lanes), Some("4"));
    assert_eq!(settings.get(Opt::Ttl), Some("none"));
    let again: Settings = serde_json::from_value(serde_json::to_value(&settings).unwrap()).unwrap();
    assert_eq!(again, settings);
    let error = serde_json::from_str::<Settings>(r#"{"lane":4}"#).unwrap_err().to_string();
    assert!(error.contains("did you mean 'lanes'?"), "{error}");
}

#[test]
fn live_changes_keep_the_rest_and_refuse_what_is_fixed() {
    let current = ModelConfig { lanes: 3, pool: Some(crate::units::Bytes::gib(1)), ..ModelConfig::default() };
    let change = Settings::new().with(Opt::Pool, "none").with(Opt::Only, "share=5%").with(Opt::Disarmed, "on");
    let changed = change.apply_live(&current).unwrap();
    assert_eq!((changed.lanes, changed.pool, changed.armed), (3, None, false));
    for (option, value) in [(Opt::Grain, "1MiB"), (Opt::Cache, "back"), (Opt::Profile, "thick"), (Opt::Seed, "1")] {
        let error = Settings::new().with(option, value).apply_live(&current).unwrap_err().to_string();
        assert!(error.starts_with(option.name()) && error.contains("cannot change"), "{error}");
    }
}

#[test]
fn filters_are_replaced_as_a_whole_while_mounted() {
    let current = ModelConfig { share_percent: 5.0, ..ModelConfig::default() };
    let change = Settings::new().with(Opt::Only, "uid=0").with(Opt::Only, "comm=tar");
    assert!((change.apply_live(&current).unwrap().share_percent - 100.0).abs() < 1e-9);
    assert_eq!(change.live_filter().unwrap().unwrap().uids, [0]);
    assert_eq!(Settings::new().live_filter().unwrap(), None);
}

#[test]
fn a_stun_rule_is_replaced_by_its_own_kind_only() {
    let current =
        Settings::new().with(Opt::StunEvery, "5").with(Opt::StunChance, "1%").apply_live(&ModelConfig::default());
    let changed = Settings::new().with(Opt::StunEvery, "none").apply_live(&current.unwrap()).unwrap();
    assert_eq!(changed.stuns.len(), 1);
}

/// Texts near to what users type, so that fuzzing gets past the first check.
fn value() -> impl Strategy<Value = String> {
    let near = "(none|wait>|lognormal:|uniform:|bimodal:|exp:|file:|queue:|path=|comm=|share=|uid=|0x)?[-0-9.e]{0,8}(ms|s|%|KiB|MiB/s|@1%|:|,p99=|\\.\\.)?[0-9]{0,3}(s|ms)?";
    prop_oneof![near, "\\PC{0,20}", any::<String>()]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]

    #[test]
    fn no_option_text_panics(index in 0..OPTIONS.len(), value in value(), list in value()) {
        let settings = Settings::new().with(OPTIONS[index].option, &value);
        if let Err(error) = settings.resolve(&env()) {
            prop_assert!(!error.to_string().contains('\n'), "{error}");
        }
        let _ = settings.apply_live(&ModelConfig::default());
        let _ = parse_mount_options(&format!("{}={value},{list}", OPTIONS[index].name));
    }
}

#[test]
fn the_help_of_freeze_lists_every_kind_of_target() {
    use crate::freeze::FreezeKind;
    let help = Opt::Freeze.spec().help;
    let options = include_str!("../../docs/options.md");
    for kind in FreezeKind::ALL {
        assert!(help.contains(kind.form()) && options.contains(&format!("`{}`", kind.form())), "{kind}");
    }
}
