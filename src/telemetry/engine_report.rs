//! What the engine reports, as events.
//!
//! Must not know: who listens. Invariant: no other place makes an event of an engine's report.

use super::event::{EventBody, OpRecord, micros};
use crate::engine::{AnsweredHold, EngineReport, errno_of};
use crate::model::{ModelNotice, Refusal};

impl From<EngineReport> for EventBody {
    fn from(report: EngineReport) -> Self {
        match report {
            EngineReport::Answered(hold) => hold.into(),
            EngineReport::Refused(operation, refusal) => {
                Self::Refused { op: OpRecord::from(&operation), error: name_of(refusal) }
            }
            EngineReport::Notice(notice) => notice.into(),
            EngineReport::Released(operations) => Self::Released { held: operations as u64 },
            EngineReport::Armed(armed) => Self::Armed { armed },
            EngineReport::Reconfigured(config) => Self::Changed { config },
            EngineReport::Grown(size) => Self::Grown { size_bytes: size.0 },
        }
    }
}

impl From<AnsweredHold> for EventBody {
    fn from(hold: AnsweredHold) -> Self {
        let times = hold.times;
        Self::Held {
            id: hold.id.0,
            op: OpRecord::from(&*hold.operation),
            requested_us: times.requested.as_micros(),
            due_us: times.due.as_micros(),
            released_us: times.answered.as_micros(),
            late_us: times.late().map(micros),
            cause: hold.cause,
            penalty: hold.penalty.into(),
            error: hold.refusal.map(name_of),
        }
    }
}

impl From<ModelNotice> for EventBody {
    fn from(notice: ModelNotice) -> Self {
        match notice {
            ModelNotice::StunBegan { cause, until, .. } => Self::StunBegan { cause, until_us: until.as_micros() },
            ModelNotice::StunEnded { .. } => Self::StunEnded {},
            ModelNotice::LowWater { used, size, .. } => Self::LowWater { used_bytes: used.0, size_bytes: size.0 },
            ModelNotice::PoolFull { size, .. } => Self::PoolFull { size_bytes: size.0 },
            ModelNotice::Discarded { grains, .. } => Self::Discarded { grains },
            ModelNotice::Expired { .. } => Self::Expired {},
        }
    }
}

fn name_of(refusal: Refusal) -> String {
    errno_of(refusal).1.to_owned()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use serde_json::json;

    use super::*;
    use crate::engine::HoldTimes;
    use crate::model::{OpId, Penalty, ReleaseCause};
    use crate::op::{Caller, OpKind, Operation};
    use crate::time::SimTime;
    use crate::units::ByteRange;

    fn hold(taken_up_ms: u64, refusal: Option<Refusal>) -> EngineReport {
        let at = |millis| SimTime::ZERO + Duration::from_millis(millis);
        EngineReport::Answered(AnsweredHold {
            id: OpId(3),
            operation: Arc::new(Operation {
                kind: OpKind::CopyFileRange,
                ino: 7,
                path: "a/b".into(),
                range: Some(ByteRange::at(4096, 512)),
                caller: Caller { pid: 11, uid: 12, gid: 13 },
                command: "cp".into(),
            }),
            times: HoldTimes {
                requested: at(1),
                due: at(21),
                released: at(21),
                taken_up: at(taken_up_ms),
                answered: at(taken_up_ms + 1),
            },
            cause: ReleaseCause::Due,
            penalty: Penalty { latency: Duration::from_millis(20), grains: 1, ..Penalty::default() },
            refusal,
        })
    }

    #[test]
    fn a_hold_is_told_with_all_that_is_known_of_it() {
        let event = serde_json::to_value(EventBody::from(hold(22, Some(Refusal::PoolFull)))).unwrap();
        let expected = json!({
            "event": "held", "id": 3, "op": "copy_file_range", "ino": 7, "path": "a/b", "offset": 4096, "length": 512,
            "pid": 11, "uid": 12, "comm": "cp", "requested_us": 1000, "due_us": 21000, "released_us": 23000, "cause": "due",
            "penalty": {"latency_us": 20000, "zeroing_us": 0, "queue_us": 0, "space_us": 0, "stun_us": 0, "grains": 1},
            "error": "ENOSPC",
        });
        assert_eq!(event, expected);
    }

    #[test]
    fn a_hold_says_when_the_harness_itself_was_late_by_more_than_100_ms() {
        for (taken_up_ms, late) in [(21, None), (121, None), (122, Some(101_000)), (5021, Some(5_000_000))] {
            let EventBody::Held { late_us, error, .. } = hold(taken_up_ms, None).into() else { panic!("no hold") };
            assert_eq!((late_us, error), (late, None), "taken up at {taken_up_ms} ms");
        }
    }
}
