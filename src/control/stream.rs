//! The body of `GET /v1/events`: kept events, then live ones, as lines.
//!
//! Must not know: who asks. Invariant: a reader that does not read costs at most its subscription's queue.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Bytes;
use crossbeam_channel::TryRecvError;
use hyper::body::{Body, Frame};
use tokio::sync::watch;
use tokio::time::{Interval, MissedTickBehavior, interval};

use crate::telemetry::event::Event;
use crate::telemetry::events::Subscription;
use crate::time::Deadline;

/// How often a live stream looks for events: a thread for each reader would cost more than the delay.
const LOOK: Duration = Duration::from_millis(20);
/// A frame takes no more lines once it has this many bytes.
const FRAME: usize = 64 << 10;

/// Whether the server is stopping, and by when it will have stopped.
pub(super) type Stopping = watch::Receiver<Option<Deadline>>;

#[derive(Debug)]
pub(super) struct EventStream {
    backlog: std::vec::IntoIter<Arc<Event>>,
    subscription: crossbeam_channel::Receiver<Arc<Event>>,
    follow: bool,
    stopping: Stopping,
    look: Interval,
}

/// What a look for events found.
#[derive(Debug)]
enum EventScan {
    Lines(Bytes),
    NothingYet,
    End,
}

impl EventStream {
    pub(super) fn new(subscription: Subscription, follow: bool, stopping: Stopping) -> Self {
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { backlog: subscription.backlog.into_iter(), subscription: subscription.live, follow, stopping, look }
    }

    fn take(&mut self) -> EventScan {
        let mut lines = Vec::new();
        let mut ended = false;
        while lines.len() < FRAME && !ended {
            match self.next_event() {
                Ok(event) => write_line(&mut lines, &event),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => ended = true,
            }
        }
        let stopping = self.stopping.borrow().is_some();
        match (lines.is_empty(), ended || !self.follow || stopping) {
            (false, _) => EventScan::Lines(lines.into()),
            (true, true) => EventScan::End,
            (true, false) => EventScan::NothingYet,
        }
    }

    fn next_event(&mut self) -> Result<Arc<Event>, TryRecvError> {
        match self.backlog.next() {
            Some(event) => Ok(event),
            None if self.follow => self.subscription.try_recv(),
            None => Err(TryRecvError::Disconnected),
        }
    }
}

fn write_line(lines: &mut Vec<u8>, event: &Event) {
    let before = lines.len();
    match serde_json::to_writer(&mut *lines, event) {
        Ok(()) => lines.push(b'\n'),
        Err(_) => lines.truncate(before),
    }
}

impl Body for EventStream {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let stream = self.get_mut();
        loop {
            match stream.take() {
                EventScan::Lines(lines) => return Poll::Ready(Some(Ok(Frame::data(lines)))),
                EventScan::End => return Poll::Ready(None),
                EventScan::NothingYet => std::task::ready!(stream.look.poll_tick(cx)),
            };
        }
    }
}
