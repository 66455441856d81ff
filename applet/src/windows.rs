//! The thread behind the customer's windows: opening one takes a while, and nothing else should wait for it.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use tandem_protocol::message::{Right, Rights};
use tokio::sync::mpsc::UnboundedSender;

use crate::consent::Person;
use crate::prompt::{Answer, Permission, Prompt, PromptRequest, Status, StatusAction, StatusWindow};

/// What the customer did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    /// An answer to the prompt with this number.
    Answer(u64, Answer),
    /// A click in the status window.
    Action(StatusAction),
}

#[derive(Debug)]
enum Order {
    Prompt(u64, PromptRequest),
    Dismiss,
    Status(Option<Status>),
}

/// The thread's owner: dropping it closes the windows.
#[derive(Debug)]
pub struct Windows {
    orders: Option<Sender<Order>>,
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
        let on = display.clone();
        let serve = move || serve(&given, on.as_deref(), &said);
        let thread = std::thread::Builder::new().name("windows".into()).spawn(serve)?;
        Ok(Self { orders: Some(orders), display, prompts: 0, status: None, thread: Some(thread) })
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
        if let Some(orders) = &self.orders {
            let _ = orders.send(order);
        }
    }
}

impl Drop for Windows {
    fn drop(&mut self) {
        self.orders = None;
        if let Some(thread) = self.thread.take() {
            // A panic there was reported there.
            let _ = thread.join();
        }
    }
}

fn serve(orders: &Receiver<Order>, display: Option<&str>, said: &UnboundedSender<Said>) {
    let mut prompt: Option<Prompt> = None;
    let mut window: Option<StatusWindow> = None;
    while let Ok(order) = orders.recv() {
        match order {
            Order::Prompt(number, request) => {
                drop(prompt.take());
                let answers = said.clone();
                // Nobody listens once the session is over.
                let shown = Prompt::show(&request, move |answer| {
                    let _ = answers.send(Said::Answer(number, answer));
                });
                prompt = shown
                    .inspect_err(|error| {
                        tracing::error!(%error, "the customer cannot be asked, which refuses");
                        let _ = said.send(Said::Answer(number, Answer::Dismissed));
                    })
                    .ok();
            }
            Order::Dismiss => drop(prompt.take()),
            Order::Status(None) => window = None,
            Order::Status(Some(status)) => match &window {
                Some(window) => window.update(status),
                None => {
                    let clicks = said.clone();
                    let acted = move |action| {
                        let _ = clicks.send(Said::Action(action));
                    };
                    window = StatusWindow::show(display, &status, acted)
                        .inspect_err(|error| tracing::error!(%error, "the status cannot be shown"))
                        .ok();
                }
            },
        }
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
