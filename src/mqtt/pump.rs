//! The event pump: polls the MQTT client to its next event, and reports why a connection ended. What an event means is not known here.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};

use rumqttc::{ConnectionError, Event, EventLoop, StateError};

use crate::lock;

/// Longest wait for TCP, TLS and CONNACK together, and for one write, in seconds.
pub(super) const NETWORK_S: u64 = 3;
/// Events gathered before other work of the task has its turn.
const EVENTS_AT_ONCE: usize = 64;

type Events = VecDeque<Result<Event, DisconnectReason>>;

/// Why an attempt failed or a connection ended.
#[derive(Debug)]
pub(super) enum DisconnectReason {
    /// The network, the broker's refusal, a file.
    Network(String),
    /// The broker, or something on the way to it, ended the connection.
    Closed(String),
    /// The broker answers no pings, and the connection is still open.
    Silent,
    /// The broker sent something that cannot be decoded or was not asked for.
    Protocol(String),
}

impl DisconnectReason {
    pub(super) fn text(&self) -> &str {
        match self {
            Self::Network(text) | Self::Closed(text) | Self::Protocol(text) => text,
            Self::Silent => "the broker does not answer pings",
        }
    }
}

impl From<&ConnectionError> for DisconnectReason {
    fn from(error: &ConnectionError) -> Self {
        let text = error.to_string();
        match error {
            ConnectionError::MqttState(state) => match state {
                StateError::ConnectionAborted => Self::Closed(text),
                StateError::Io(io) | StateError::Deserialization(rumqttc::Error::Io(io)) if is_end(io) => {
                    Self::Closed(text)
                }
                StateError::AwaitPingResp => Self::Silent,
                StateError::Io(_) | StateError::Deserialization(rumqttc::Error::Io(_)) => Self::Network(text),
                StateError::InvalidState
                | StateError::Unsolicited(_)
                | StateError::WrongPacket
                | StateError::CollisionTimeout
                | StateError::EmptySubscription
                | StateError::Deserialization(_) => Self::Protocol(text),
            },
            ConnectionError::NotConnAck(_) => Self::Protocol(text),
            ConnectionError::NetworkTimeout => Self::Network(format!("no answer within {NETWORK_S} s")),
            ConnectionError::FlushTimeout => Self::Network(format!("the broker took no bytes for {NETWORK_S} s")),
            ConnectionError::Tls(_)
            | ConnectionError::Io(_)
            | ConnectionError::ConnectionRefused(_)
            | ConnectionError::RequestsDone => Self::Network(text),
        }
    }
}

fn is_end(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof)
}

/// The client's event loop. It is one future for the whole connection: dropped half-way it would lose what it was writing.
pub(super) struct EventPump {
    running: Pin<Box<dyn Future<Output = Infallible> + Send>>,
    /// The future is polled only when it was woken, however often the task around it has other things to do.
    woken: Arc<WakeFlag>,
    /// Events not taken yet.
    events: Arc<Mutex<Events>>,
}

impl EventPump {
    pub(super) fn new(mut client: EventLoop) -> Self {
        let events = Arc::new(Mutex::new(Events::new()));
        let gathered = Arc::clone(&events);
        let running = async move {
            loop {
                let event = client.poll().await.map_err(|error| DisconnectReason::from(&error));
                let ended = event.is_err();
                let waiting = {
                    let mut gathered = lock(&gathered);
                    gathered.push_back(event);
                    gathered.len()
                };
                if ended {
                    // The client is kept until the end of the connection is taken, so that nothing is sent to one that is gone.
                    std::future::pending::<()>().await;
                } else if waiting >= EVENTS_AT_ONCE {
                    tokio::task::yield_now().await;
                }
            }
        };
        Self { running: Box::pin(running), woken: Arc::default(), events }
    }

    /// The next event, or why the connection ended; then there are no more. Nothing is lost when the future is dropped.
    pub(super) async fn next(&mut self) -> Result<Event, DisconnectReason> {
        std::future::poll_fn(|context| self.poll_next(context)).await
    }

    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Result<Event, DisconnectReason>> {
        if let Some(event) = lock(&self.events).pop_front() {
            return Poll::Ready(event);
        }
        self.woken.wake_task(context.waker());
        if self.woken.take() {
            let waker = Waker::from(Arc::clone(&self.woken));
            let context = &mut Context::from_waker(&waker);
            // The client asserts its own state in places; a broker must not be able to end the link with that.
            if catch_unwind(AssertUnwindSafe(|| self.running.as_mut().poll(context).is_ready())).is_err() {
                self.running = Box::pin(std::future::pending());
                let failed = DisconnectReason::Protocol("the MQTT client failed on what the broker sent".into());
                lock(&self.events).push_back(Err(failed));
            }
        }
        lock(&self.events).pop_front().map_or(Poll::Pending, Poll::Ready)
    }
}

/// Remembers that the future was woken, and wakes the task.
struct WakeFlag {
    set: AtomicBool,
    task: Mutex<Waker>,
}

impl Default for WakeFlag {
    fn default() -> Self {
        // Set from the start, so that the future is polled once.
        Self { set: AtomicBool::new(true), task: Mutex::new(Waker::noop().clone()) }
    }
}

impl WakeFlag {
    /// From now on wakes `task`.
    fn wake_task(&self, task: &Waker) {
        let mut mine = lock(&self.task);
        if !mine.will_wake(task) {
            mine.clone_from(task);
        }
    }

    /// Whether it was set since the last call. To be called after [`WakeFlag::wake_task`], or a wake in between is lost.
    fn take(&self) -> bool {
        self.set.swap(false, Ordering::AcqRel)
    }
}

impl Wake for WakeFlag {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.set.store(true, Ordering::Release);
        lock(&self.task).wake_by_ref();
    }
}
