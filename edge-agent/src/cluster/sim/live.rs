//! The model behind the port, in tokio's time.
//!
//! Nothing is spawned: whoever waits for something drives the model up to the present, and a waiter sleeps
//! until the next thing is due. In tokio's paused time days pass in an instant.

use std::{cell::RefCell, collections::BTreeMap, collections::VecDeque, rc::Rc, time::Duration};

use futures::stream::{self, LocalBoxStream, StreamExt};
use tokio::{
    sync::Notify,
    time::{Instant, timeout_at},
};

use super::{Edit, Input, Output, SimCluster};
use crate::{
    cluster::{Cluster, ClusterError, REQUEST_TIMEOUT, Request, Response, WatchEvent},
    logic::object::Gvk,
};

/// A simulated cluster for asynchronous callers. Clones are the same cluster.
#[derive(Clone)]
pub struct LiveCluster {
    shared: Rc<Shared>,
}

struct Shared {
    start: Instant,
    state: RefCell<State>,
    news: Notify,
}

struct State {
    model: SimCluster,
    /// What is due, in order of time and then of making.
    due: BTreeMap<(Duration, u64), Output>,
    made: u64,
    asked: u64,
    answers: BTreeMap<u64, Result<Response, ClusterError>>,
    events: BTreeMap<u64, VecDeque<WatchEvent>>,
}

impl LiveCluster {
    /// Lets a cluster live from now on.
    pub fn new(model: SimCluster) -> Self {
        let (due, answers, events) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        let state = RefCell::new(State { model, due, made: 0, asked: 0, answers, events });
        Self { shared: Rc::new(Shared { start: Instant::now(), state, news: Notify::new() }) }
    }

    /// Does what a person or another controller would do, at once.
    pub fn edit(&self, edit: Edit) {
        self.shared.catch_up();
        self.shared.put(Input::Edit(edit));
    }
}

impl Cluster for LiveCluster {
    async fn send(&self, request: Request) -> Result<Response, ClusterError> {
        let id = self.shared.next_id();
        self.shared.catch_up();
        self.shared.put(Input::Request { id, request });
        let answer = self.shared.wait(|state| state.answers.remove(&id));
        match tokio::time::timeout(REQUEST_TIMEOUT, answer).await {
            Ok(answer) => answer,
            Err(_) => Err(ClusterError::Timeout { after: REQUEST_TIMEOUT }),
        }
    }

    fn watch(&self, kind: Gvk, label_selector: String, _seed: u64) -> LocalBoxStream<'static, WatchEvent> {
        let id = self.shared.next_id();
        self.shared.catch_up();
        self.shared.state.borrow_mut().events.insert(id, VecDeque::new());
        self.shared.put(Input::Watch { id, kind, label_selector });
        let watch = OpenWatch { id, shared: Rc::clone(&self.shared) };
        stream::unfold(watch, |watch| async move {
            let next = |state: &mut State| state.events.get_mut(&watch.id).and_then(VecDeque::pop_front);
            let event = watch.shared.wait(next).await;
            Some((event, watch))
        })
        .boxed_local()
    }
}

/// A watch that ends with its stream.
struct OpenWatch {
    id: u64,
    shared: Rc<Shared>,
}

impl Drop for OpenWatch {
    fn drop(&mut self) {
        self.shared.state.borrow_mut().events.remove(&self.id);
        self.shared.put(Input::Unwatch { id: self.id });
    }
}

impl Shared {
    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    fn next_id(&self) -> u64 {
        let mut state = self.state.borrow_mut();
        state.asked += 1;
        state.asked
    }

    fn put(&self, input: Input) {
        let now = self.now();
        self.state.borrow_mut().handle(now, input);
        self.news.notify_waiters();
    }

    /// Lets everything happen that is due.
    fn catch_up(&self) {
        if self.state.borrow_mut().catch_up(self.now()) {
            self.news.notify_waiters();
        }
    }

    async fn wait<T>(&self, mut take: impl FnMut(&mut State) -> Option<T>) -> T {
        loop {
            self.catch_up();
            if let Some(taken) = take(&mut self.state.borrow_mut()) {
                return taken;
            }
            let next = self.state.borrow().due.keys().next().map(|(time, _)| self.start + *time);
            match next {
                Some(next) => drop(timeout_at(next, self.news.notified()).await),
                None => self.news.notified().await,
            }
        }
    }
}

impl State {
    fn handle(&mut self, now: Duration, input: Input) {
        for (delay, output) in self.model.handle(now, input) {
            self.made += 1;
            self.due.insert((now + delay, self.made), output);
        }
    }

    /// Whether anything happened.
    fn catch_up(&mut self, now: Duration) -> bool {
        let mut happened = false;
        while let Some(next) = self.due.first_entry() {
            let (time, _) = *next.key();
            if time > now {
                break;
            }
            happened = true;
            match next.remove() {
                Output::Answer { id, answer } => drop(self.answers.insert(id, answer)),
                Output::Event { id, event } => {
                    if let Some(events) = self.events.get_mut(&id) {
                        events.push_back(event);
                    }
                }
                Output::Task(task) => self.handle(time, Input::Task(task)),
            }
        }
        happened
    }
}
