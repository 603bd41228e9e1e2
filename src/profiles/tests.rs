use std::path::PathBuf;

use super::*;
use crate::settings::Env;

fn env() -> Env {
    Env { backing: PathBuf::from("/b"), mountpoint: PathBuf::from("/m"), seed: 1, profiles: lookup }
}

#[test]
fn every_built_in_profile_resolves_and_names_its_sources() {
    for profile in built_in().unwrap() {
        assert!(!profile.description.is_empty(), "{}", profile.name);
        assert!(!profile.figures.is_empty(), "{}", profile.name);
        for figure in &profile.figures {
            let source = figure.source.as_deref().unwrap_or_default();
            assert!(source.len() > 10, "{}: {} has no source", profile.name, figure.option);
        }
        let options = Settings::new().with(Opt::Profile, &profile.name).resolve(&env()).unwrap();
        assert_eq!(options.profile.as_deref(), Some(profile.name.as_str()));
    }
}

#[test]
fn options_override_the_profile() {
    let settings = Settings::new().with(Opt::Profile, "lvm-thin").with(Opt::Lanes, "8").with(Opt::Zeroing, "none");
    let model = settings.resolve(&env()).unwrap().model;
    assert_eq!((model.lanes, model.zeroing, model.discard), (8, None, true));
}

#[test]
fn an_unknown_profile_names_the_nearest() {
    let error = find("vmware-thn").unwrap_err().to_string();
    assert!(error.contains("did you mean 'vmware-thin'?"), "{error}");
    let error = find("zzz").unwrap_err().to_string();
    assert!(error.contains("lvm-thin") && error.contains(".yaml"), "{error}");
}

#[test]
fn a_users_file_is_a_profile() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("mine.yaml");
    std::fs::write(&path, "description: mine\nfirst_write: 7ms\nlanes: {value: 3, source: measured}\nonly: [uid=0]\n")
        .unwrap();
    let settings = lookup(path.to_str().unwrap()).unwrap();
    assert_eq!(settings.get(Opt::FirstWrite), Some("7ms"));
    assert_eq!(settings.get(Opt::Lanes), Some("3"));
}

/// "first-write: '20' has no unit", it said, of a value that was not on the command line.
#[test]
fn regression_a_wrong_value_in_a_profile_did_not_name_the_profile() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("mine.yaml");
    std::fs::write(&path, "first-write: 20\nlanes: 2\n").unwrap();
    let settings = Settings::new().with(Opt::Profile, path.to_str().unwrap());
    let error = settings.resolve(&env()).unwrap_err().to_string();
    assert!(error.contains("first-write: '20' has no unit") && error.contains("(in profile /"), "{error}");
    let over = settings.with(Opt::FirstWrite, "1ms").with(Opt::Lanes, "0");
    let error = over.resolve(&env()).unwrap_err().to_string();
    assert!(error.contains("lanes: '0'") && !error.contains("in profile"), "{error}");
}

#[test]
fn what_is_no_profile_is_refused_in_one_line() {
    let cases = [
        ("first-writ: 7ms", "did you mean 'first-write'?"),
        ("profile: thick", "another"),
        ("lanes: {source: x}", "no value"),
        ("lanes: {value: 1, sauce: x}", "not one of value, source, estimate"),
        ("- 1", "option: value"),
        ("a: [", "not YAML"),
        ("lanes: [1, 2]", "not"),
        ("grain: {value: {}}", "not a text"),
        ("1: 2", "not text"),
        ("", "option: value"),
    ];
    for (text, expected) in cases {
        let error = file::parse("f.yaml", text).unwrap_err().to_string();
        assert!(error.contains(expected) && error.starts_with("profile f.yaml: "), "{text}: {error}");
        assert!(!error.contains('\n'), "{error}");
    }
    assert!(find("./no/such.yaml").unwrap_err().to_string().contains("cannot be read"));
}
