//! Latencies: the text forms, and whether samples are what the form says.

use std::time::Duration;

use super::ms;
use crate::model::Latency;
use crate::seed::{DrawKey, Stream};

fn latency(text: &str) -> Latency {
    text.parse().unwrap()
}

/// 20,000 samples in order of size.
fn samples(latency: &Latency) -> Vec<Duration> {
    let stream = Stream::new(42, "first-write");
    let mut samples: Vec<Duration> = (0..20_000).map(|n| latency.sample(&mut stream.at(DrawKey::nth(n)))).collect();
    samples.sort_unstable();
    samples
}

fn assert_near(got: Duration, expected: Duration, tolerance: f64) {
    let off = got.as_secs_f64() / expected.as_secs_f64() - 1.0;
    assert!(off.abs() < tolerance, "{got:?} is not within {tolerance} of {expected:?}");
}

#[test]
fn text_forms_read_back_as_themselves() {
    for text in [
        "20ms",
        "0ms",
        "1500us",
        "uniform:1s..20s",
        "exp:20ms",
        "lognormal:8ms,p99=200ms",
        "bimodal:5ms,2s@1%",
        "bimodal:5ms,2s@0.25%",
    ] {
        assert_eq!(latency(text).to_string(), text);
        let json = serde_json::to_string(&latency(text)).unwrap();
        assert_eq!(json, format!("\"{text}\""));
        assert_eq!(serde_json::from_str::<Latency>(&json).unwrap(), latency(text));
    }
    assert_eq!(latency("0"), Latency::Constant(Duration::ZERO));
    assert_eq!(latency(" 1.5s "), Latency::Constant(ms(1500)));
    assert_eq!(latency("1.5s").to_string(), "1500ms");
}

#[test]
fn wrong_forms_say_what_is_allowed() {
    for (text, part) in [
        ("20", "20ms"),
        ("", "uniform:1s..20s"),
        ("soon", "lognormal:8ms,p99=200ms"),
        ("gamma:1ms", "bimodal:5ms,2s@1%"),
        ("uniform:1s", "uniform:1s..20s"),
        ("uniform:2s..1s", "lower bound"),
        ("uniform:1..2", "unit"),
        ("exp:-5ms", "not a time"),
        ("lognormal:8ms", "p99"),
        ("lognormal:8ms,p99=2ms", "below the median"),
        ("lognormal:0ms,p99=2ms", "median"),
        ("bimodal:5ms,2s", "bimodal:5ms,2s@1%"),
        ("bimodal:5ms,2s@101%", "0% to 100%"),
        ("bimodal:5ms,2s@-1%", "0% to 100%"),
        ("bimodal:5ms,2s@NaN%", "0% to 100%"),
        ("25h", "24h"),
        ("uniform:1s..25h", "24h"),
        ("exp:999999999h", "24h"),
        ("file:x", "cannot be given here"),
    ] {
        let error = text.parse::<Latency>().unwrap_err().to_string();
        assert!(error.contains(part) && !error.contains('\n'), "{text}: {error}");
    }
}

#[test]
fn a_file_holds_one_sample_a_line() {
    let read = |_: &str| Ok::<_, &str>("# measured\n5ms\n\n 10ms # twice\n10ms\n".to_owned());
    let measured = Latency::parse_with("file:m.txt", read).unwrap();
    assert_eq!(measured, Latency::Samples { file: "m.txt".into(), samples: vec![ms(5), ms(10), ms(10)].into() });
    assert_eq!(measured.to_string(), "file:m.txt");
    let json = serde_json::to_string(&measured).unwrap();
    assert_eq!(serde_json::from_str::<Latency>(&json).unwrap(), measured);
    let drawn = samples(&measured);
    let short = drawn.iter().filter(|time| **time == ms(5)).count();
    assert!((6_000..7_400).contains(&short), "{short}");
}

#[test]
fn a_bad_file_is_told_by_its_line() {
    let error = |content: &str| {
        let content = content.to_owned();
        Latency::parse_with("file:m.txt", |_| Ok::<_, &str>(content)).unwrap_err().to_string()
    };
    assert!(error("5ms\n20\n").contains("m.txt:2: '20' has no unit"));
    assert!(error("# nothing\n").contains("holds no time"));
    assert!(error("5ms\n30h\n").contains("24h"));
    let missing = Latency::parse_with("file:m.txt", |_| Err("no such file")).unwrap_err().to_string();
    assert!(missing.contains("'m.txt': no such file"));
    assert_eq!(Latency::parse_with("20ms", |_| Err("not asked")), Ok(Latency::Constant(ms(20))));
}

#[test]
fn uniform_samples_fill_their_range() {
    let drawn = samples(&latency("uniform:1s..3s"));
    assert!(drawn[0] >= ms(1000) && drawn[19_999] <= ms(3000));
    assert_near(drawn[10_000], ms(2000), 0.02);
    assert_near(drawn[2_000], ms(1200), 0.02);
}

#[test]
fn exponential_samples_have_their_mean() {
    let drawn = samples(&latency("exp:20ms"));
    assert_near(drawn.iter().sum::<Duration>() / 20_000, ms(20), 0.03);
    assert_near(drawn[10_000], Duration::from_secs_f64(0.020 * 2.0_f64.ln()), 0.04);
}

#[test]
fn lognormal_samples_have_their_median_and_p99() {
    let drawn = samples(&latency("lognormal:8ms,p99=200ms"));
    assert_near(drawn[10_000], ms(8), 0.04);
    assert_near(drawn[19_800], ms(200), 0.1);
    let flat = samples(&latency("lognormal:8ms,p99=8ms"));
    assert_near(flat[0], flat[19_999], 1e-6);
}

#[test]
fn bimodal_samples_are_rare_as_often_as_it_says() {
    let drawn = samples(&latency("bimodal:5ms,2s@1%"));
    let rare = drawn.iter().filter(|time| **time == ms(2000)).count();
    assert!((160..240).contains(&rare), "{rare}");
    assert!(samples(&latency("bimodal:5ms,2s@0%")).iter().all(|time| *time == ms(5)));
    assert!(samples(&latency("bimodal:5ms,2s@100%")).iter().all(|time| *time == ms(2000)));
}

#[test]
fn no_sample_is_longer_than_a_day() {
    let drawn = samples(&latency("lognormal:1h,p99=24h"));
    assert!(drawn[19_999] <= super::super::LONGEST);
}
