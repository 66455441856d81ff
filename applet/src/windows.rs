//! The thread behind the customer's windows: opening one takes a while, and nothing else should wait for it.

use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tandem_protocol::message::{Right, Rights};
use tokio::sync::mpsc::UnboundedSender;

use crate::consent::Person;
use crate::prompt::{Answer, Permission, Prompt, PromptRequest, Status, StatusAction, StatusWindow};

/// The status window may be lost so often within [`LOST_WITHIN`]: who takes it away again and again wants it not to be seen.
const LOST_MAX: usize = 10;
/// A desktop that restarts its panels once in a while is no such thing, however long the session lasts.
const LOST_WITHIN: Duration = Duration::from_secs(60);

/// What the customer did, or can't do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    /// An answer to the prompt with this number.
    Answer(u64, Answer),
    /// A click in the status window.
    Action(StatusAction),
    /// Nothing on the screen says that somebody is connected, and nothing there ends it.
    Unseen,
}

#[derive(Debug)]
enum Order {
    Prompt(u64, PromptRequest),
    Dismiss,
    End,
    /// The status window with this number is gone.
    Lost(u32),
    Status(Option<Status>),
}

/// The thread's owner: dropping it closes the windows.
#[derive(Debug)]
pub struct Windows {
    orders: Sender<Order>,
    display: Option<String>,
    prompts: u64,
    status: Option<Status>,
    thread: Option<JoinHandle<()>>,
}

impl Windows {
    /// Starts the thread, for windows on this X display (`None`: the environment's).
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub fn start(display: Option<String>, said: UnboundedSender<Said>) -> std::io::Result<Self> {
        let (orders, given) = channel();
        let mut serving = Serving {
            display: display.clone(),
            said,
            orders: orders.clone(),
            prompt: None,
            status: None,
            window: None,
            opened: 0,
            losses: Losses::default(),
        };
        let thread =
            std::thread::Builder::new().name("windows".into()).spawn(move || serving.serve(&given))?;
        Ok(Self { orders, display, prompts: 0, status: None, thread: Some(thread) })
    }

    /// Asks the customer; answers with the prompt's number. An earlier prompt is taken back.
    pub fn prompt(&mut self, person: &Person, rights: Rights) -> u64 {
        self.prompts += 1;
        let permissions = permissions(rights);
        let mut request = PromptRequest::new(&person.name, &person.organisation, permissions);
        request.display = self.display.clone();
        self.order(Order::Prompt(self.prompts, request));
        self.prompts
    }

    /// Takes the prompt back.
    pub fn dismiss(&self) {
        self.order(Order::Dismiss);
    }

    /// Shows who is here and what they may do, if anybody is.
    pub fn status<'a>(&mut self, people: impl Iterator<Item = &'a Person>) {
        let mut here: Vec<&Person> = people.filter(|person| person.online).collect();
        here.sort_by_key(|person| !person.lead);
        let status = here.first().map(|first| Status {
            technicians: here.iter().map(|person| person.name.clone()).collect(),
            organisation: first.organisation.clone(),
            permissions: permissions(Rights::of(
                &here.iter().flat_map(|person| person.granted.iter()).collect::<Vec<_>>(),
            )),
            language: None,
        });
        if self.status != status {
            self.status.clone_from(&status);
            self.order(Order::Status(status));
        }
    }

    fn order(&self, order: Order) {
        // Its thread ends only with its owner.
        let _ = self.orders.send(order);
    }
}

impl Drop for Windows {
    fn drop(&mut self) {
        self.order(Order::End);
        if let Some(thread) = self.thread.take() {
            // A panic there was reported there.
            let _ = thread.join();
        }
    }
}

/// The windows, on their thread.
struct Serving {
    display: Option<String>,
    said: UnboundedSender<Said>,
    /// To itself.
    orders: Sender<Order>,
    prompt: Option<Prompt>,
    status: Option<Status>,
    window: Option<StatusWindow>,
    /// So many status windows were opened, of which the last one has this number.
    opened: u32,
    losses: Losses,
}

/// When status windows were lost, of late.
#[derive(Debug, Default)]
struct Losses(VecDeque<Instant>);

impl Losses {
    /// One more; whether that is too many.
    fn add(&mut self, now: Instant) -> bool {
        self.0.retain(|&at| now.saturating_duration_since(at) < LOST_WITHIN);
        self.0.push_back(now);
        self.0.len() > LOST_MAX
    }
}

impl Serving {
    fn serve(&mut self, orders: &Receiver<Order>) {
        while let Ok(order) = orders.recv() {
            match order {
                Order::Prompt(number, request) => self.ask(number, &request),
                Order::Dismiss => drop(self.prompt.take()),
                Order::End => return,
                Order::Lost(number) if number == self.opened && self.window.is_some() => self.reopen(),
                // One that has been closed meanwhile.
                Order::Lost(_) => {}
                Order::Status(status) => {
                    self.status = status;
                    self.show();
                }
            }
        }
    }

    fn ask(&mut self, number: u64, request: &PromptRequest) {
        drop(self.prompt.take());
        let answers = self.said.clone();
        // Nobody listens once the session is over.
        let shown = Prompt::show(request, move |answer| {
            let _ = answers.send(Said::Answer(number, answer));
        });
        self.prompt = shown
            .inspect_err(|error| {
                tracing::error!(%error, "the customer cannot be asked, which refuses");
                let _ = self.said.send(Said::Answer(number, Answer::Dismissed));
            })
            .ok();
    }

    /// Shows the status, if there is one.
    fn show(&mut self) {
        match (&self.status, &self.window) {
            (None, _) => self.window = None,
            (Some(status), Some(window)) => window.update(status.clone()),
            (Some(status), None) => {
                self.opened += 1;
                let (number, clicks, orders) = (self.opened, self.said.clone(), self.orders.clone());
                // Nobody listens once the session is over.
                let acted = move |action| {
                    let _ = clicks.send(Said::Action(action));
                };
                let lost = move || drop(orders.send(Order::Lost(number)));
                match StatusWindow::show(self.display.as_deref(), status, acted, lost) {
                    Ok(window) => self.window = Some(window),
                    Err(error) => self.unseen(&error),
                }
            }
        }
    }

    fn reopen(&mut self) {
        self.window = None;
        match self.losses.add(Instant::now()) {
            true => self.unseen(&"it was taken away too often"),
            false => self.show(),
        }
    }

    fn unseen(&self, why: &dyn std::fmt::Display) {
        tracing::error!(%why, "the status cannot be shown, which ends the session");
        let _ = self.said.send(Said::Unseen);
    }
}

fn permissions(rights: Rights) -> Vec<Permission> {
    let of = |right| match right {
        Right::View => Some(Permission::View),
        Right::Control => Some(Permission::Control),
        Right::Clipboard => Some(Permission::Clipboard),
        Right::SendFiles => Some(Permission::SendFiles),
        Right::ReceiveFiles => Some(Permission::ReceiveFiles),
        Right::Unspecified | Right::Chat | Right::Audio => None,
    };
    rights.iter().filter_map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_may_be_lost_all_day_but_not_again_and_again() {
        let (mut losses, began) = (Losses::default(), Instant::now());
        let apart = LOST_WITHIN / LOST_MAX as u32;
        assert!((0..10_000).all(|number| !losses.add(began + apart * number)));
        let later = began + apart * 20_000;
        assert!((0..LOST_MAX).all(|_| !losses.add(later)));
        assert!(losses.add(later + LOST_WITHIN / 2));
    }
}
