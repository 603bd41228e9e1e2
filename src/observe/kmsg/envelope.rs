//! Messages in JSON objects, as the journal, containers and log shippers write them, one on a line.
//!
//! Must not know: what messages mean, other carriers. Invariant: an object that names a program as the speaker gives no
//! message of the kernel's.

use serde_json::{Map, Value};

/// A message that was in an object.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Envelope {
    /// What was said; may have several lines.
    pub(super) message: String,
    /// A program said it, not the kernel.
    pub(super) by_program: bool,
    /// Microseconds since that kernel's boot, if the object tells.
    pub(super) kernel_us: Option<u64>,
}

/// How deep objects may be within each other.
const MAX_DEPTH: usize = 3;

/// Names under which the message is kept, the most specific first.
const MESSAGE: [&str; 9] = ["MESSAGE", "message", "msg", "log", "short_message", "textPayload", "line", "text", "_raw"];

/// Names under which the speaker is kept.
const SPEAKER: [&str; 19] = [
    "_TRANSPORT",
    "SYSLOG_IDENTIFIER",
    "syslog_identifier",
    "appname",
    "app_name",
    "app-name",
    "programname",
    "program",
    "PROGRAM",
    "_app_name",
    "_program",
    "logger",
    "component",
    "reportingComponent",
    "talos-service",
    "SYSLOG_TAG",
    "ident",
    "syslogtag",
    "syslog_tag",
];

/// Names under which syslog's facility is kept.
const FACILITY: [&str; 7] =
    ["SYSLOG_FACILITY", "syslog_facility", "facility", "FACILITY", "fac", "facility_name", "facility_label"];

/// The messages in a text that is (or ends with) an object, or is a list of objects.
pub(super) fn open(text: &str) -> Option<Vec<Envelope>> {
    let text = text.strip_prefix("data: ").or_else(|| text.strip_prefix("@cee:")).unwrap_or(text).trim();
    if text.starts_with('{') || text.starts_with("[{") {
        return from_value(&serde_json::from_str(text).ok()?);
    }
    // `[0] kmsg.0: [[1763953321.0, {}], {"priority"=>3, "msg"=>"..."}]` (Fluent Bit), `kmsg: {"message":"..."}` (fluentd)
    let (before, _) = text.split_once('{')?;
    let is_tagged = before.split_whitespace().count() <= 4 && !before.contains(['\'', '"', '=']);
    let start = text.find("{\"").filter(|_| is_tagged)?;
    let object = text.get(start..=text.rfind('}')?)?.replace("\"=>", "\":");
    from_value(&serde_json::from_str(&object).ok()?)
}

/// One message, or those in a list; `{"dmesg":[..]}` is a list, too.
fn from_value(value: &Value) -> Option<Vec<Envelope>> {
    if let Some(streams) = loki_streams(value) {
        return Some(streams);
    }
    let list = value.as_array().or_else(|| {
        let only = value.as_object().filter(|object| object.len() == 1)?.values().next()?;
        only.as_array().filter(|list| list.iter().all(Value::is_object))
    });
    let Some(list) = list else { return from_fields(value.as_object()?).map(|envelope| vec![envelope]) };
    Some(list.iter().filter_map(Value::as_object).filter_map(from_fields).collect())
}

/// The lines in Loki's answer to a query: `{"data":{"result":[{"stream":{labels},"values":[["time","line"]]}]}}`, and
/// `{"streams":[..]}` as it is pushed.
fn loki_streams(value: &Value) -> Option<Vec<Envelope>> {
    let streams = value.get("streams").or_else(|| value.get("data")?.get("result"))?.as_array()?;
    let mut envelopes = Vec::new();
    for stream in streams {
        let by_program = stream.get("stream")?.as_object().is_some_and(|labels| is_programs(labels, 0));
        for entry in stream.get("values")?.as_array()? {
            let message = entry.get(1)?.as_str()?.to_owned();
            envelopes.push(Envelope { message, by_program, kernel_us: None });
        }
    }
    Some(envelopes)
}

/// The message in an object's fields.
pub(super) fn from_fields(object: &Map<String, Value>) -> Option<Envelope> {
    let message = find(object, &MESSAGE, 0).and_then(to_text)?;
    Some(Envelope { message, by_program: is_programs(object, 0), kernel_us: kernel_us(object) })
}

fn find<'a>(object: &'a Map<String, Value>, names: &[&str], depth: usize) -> Option<&'a Value> {
    let is_message = |value: &&Value| to_text(value).is_some();
    let here = names.iter().find_map(|name| object.get(*name).filter(is_message));
    here.or_else(|| inner(object, depth).find_map(|object| find(object, names, depth + 1)))
}

fn inner(object: &Map<String, Value>, depth: usize) -> impl Iterator<Item = &Map<String, Value>> {
    object.values().filter_map(Value::as_object).filter(move |_| depth < MAX_DEPTH)
}

/// Text, also as the array of bytes that the journal writes for text with control characters.
fn to_text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Array(bytes) => {
            let bytes: Option<Vec<u8>> =
                bytes.iter().map(|byte| byte.as_u64().and_then(|byte| u8::try_from(byte).ok())).collect();
            bytes.filter(|bytes| !bytes.is_empty()).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        }
        _ => None,
    }
}

fn is_programs(object: &Map<String, Value>, depth: usize) -> bool {
    let named = |names: &[&str], is_kernel: fn(&str) -> bool| {
        names.iter().filter_map(|name| object.get(*name)).any(|value| match value {
            Value::String(text) => !is_kernel(text),
            Value::Number(number) => !is_kernel(&number.to_string()),
            _ => false,
        })
    };
    named(&SPEAKER, is_kernel)
        || process(object).is_some_and(|name| !is_kernel(name))
        || named(&FACILITY, is_kernels_facility)
        || object.get("caller").and_then(Value::as_str).is_some_and(|caller| caller.contains(".go:"))
        || inner(object, depth).any(|object| is_programs(object, depth + 1))
}

/// `"process":{"name":"app"}`.
fn process(object: &Map<String, Value>) -> Option<&str> {
    object.get("process")?.as_object()?.get("name")?.as_str()
}

fn is_kernel(speaker: &str) -> bool {
    let name = speaker.trim().trim_end_matches(':').split('[').next().unwrap_or_default();
    ["", "-", "kernel", "kern", "kmsg"].contains(&name.to_ascii_lowercase().as_str())
}

fn is_kernels_facility(facility: &str) -> bool {
    ["", "0", "kern", "kernel"].contains(&facility.trim().to_ascii_lowercase().as_str())
}

/// `"sec":301,"usec":1` (Fluent Bit) or `"time": 301.000001` (`dmesg --json`).
fn kernel_us(object: &Map<String, Value>) -> Option<u64> {
    if let (Some(sec), Some(usec)) = (object.get("sec"), object.get("usec")) {
        return sec.as_u64()?.checked_mul(1_000_000)?.checked_add(usec.as_u64()?);
    }
    let time = object.get("time").filter(|time| time.is_number())?.to_string();
    let (seconds, fraction) = time.split_once('.').unwrap_or((&time, "0"));
    let micros: u64 = format!("{fraction:0<6}").get(..6)?.parse().ok()?;
    seconds.parse::<u64>().ok()?.checked_mul(1_000_000)?.checked_add(micros)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn only(line: &str) -> Option<Envelope> {
        let found = open(line)?;
        assert!(found.len() < 2);
        found.into_iter().next()
    }

    #[test]
    fn messages_of_the_kernel() {
        for line in [
            r#"{"dmesg":[{"pri":3,"time":1.000001,"msg":"a \"b\""}]}"#,
            r#"[{"message":"a \"b\""}]"#,
            r#"{"message":"a \"b\"","process":{"name":"kernel"},"syslog":{"facility":0,"facility_label":"kernel"}}"#,
            r#"{"_TRANSPORT":"kernel","SYSLOG_IDENTIFIER":"kernel","SYSLOG_FACILITY":"0","PRIORITY":"3","MESSAGE":"a \"b\""}"#,
            r#"{"_TRANSPORT":"kernel","MESSAGE":[97,32,34,98,34]}"#,
            r#"{"log":"a \"b\"","stream":"stdout","time":"2025-11-24T03:02:01.5Z"}"#,
            r#"{"appname":"kernel","facility":"kern","hostname":"n","message":"a \"b\"","severity":"err"}"#,
            r#"{"insertId":"x","jsonPayload":{"message":"a \"b\"","SYSLOG_IDENTIFIER":"kernel"},"severity":"ERROR"}"#,
            r#"{"programname":"kernel","syslogtag":"kernel:","msg":"a \"b\"","host":"n"}"#,
            r#"data: {"MESSAGE":"a \"b\"","_TRANSPORT":"kernel"}"#,
            r#"kmsg: {"message":"a \"b\""}"#,
            r#"{"status":"success","data":{"resultType":"streams","result":[{"stream":{"job":"k"},"values":[["1763","a \"b\""]]}]}}"#,
            r#"[0] kmsg.0: [[1763953321.000001, {}], {"priority"=>3, "sequence"=>4, "msg"=>"a \"b\""}]"#,
        ] {
            let found = only(line).unwrap_or_else(|| panic!("{line}"));
            assert_eq!((found.message.as_str(), found.by_program), ("a \"b\"", false), "{line}");
        }
    }

    #[test]
    fn messages_of_programs() {
        for line in [
            r#"{"_TRANSPORT":"stdout","SYSLOG_IDENTIFIER":"app","MESSAGE":"a"}"#,
            r#"{"_TRANSPORT":"kernel","SYSLOG_IDENTIFIER":"systemd","SYSLOG_FACILITY":"3","MESSAGE":"a"}"#,
            r#"{"appname":"app","message":"a"}"#,
            r#"{"facility":"user","message":"a"}"#,
            r#"{"facility":1,"message":"a"}"#,
            r#"{"syslogtag":"app[12]:","msg":"a"}"#,
            r#"{"process":{"name":"app"},"message":"a"}"#,
            r#"{"jsonPayload":{"message":"a","ident":"app"}}"#,
            r#"{"PROGRAM":"app","FACILITY":"user","MESSAGE":"a"}"#,
            r#"{"talos-service":"kubelet","msg":"a"}"#,
            r#"{"level":"error","logger":"npd","msg":"a"}"#,
            r#"{"level":"error","caller":"npd/main.go:12","msg":"a"}"#,
            r#"{"kind":"Event","source":{"component":"kernel-monitor"},"message":"a"}"#,
            r#"{"short_message":"a","_app_name":"app"}"#,
        ] {
            assert!(only(line).is_some_and(|found| found.by_program), "{line}");
        }
    }

    #[test]
    fn the_kernels_time() {
        assert_eq!(only(r#"{"sec":301,"usec":2,"msg":"a"}"#).unwrap().kernel_us, Some(301_000_002));
        assert_eq!(only(r#"{"time":301.000002,"msg":"a"}"#).unwrap().kernel_us, Some(301_000_002));
        assert_eq!(only(r#"{"time":301.5,"msg":"a"}"#).unwrap().kernel_us, Some(301_500_000));
        assert_eq!(only(r#"{"time":"2025-11-24","msg":"a"}"#).unwrap().kernel_us, None);
    }

    #[test]
    fn what_has_no_message() {
        for line in ["{", "{}", r#"{"message":1}"#, r#"{"a":"b"}"#, "[0] {", "x", r#"say "{"message":"a"}""#] {
            assert_eq!(only(line), None, "{line}");
        }
    }
}
