//! One pair under one set of conditions.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;

use super::report::{Conditions, Line, mbit};
use super::scene::{Network, Place, Scene, Seat};
use super::{Behind, Show};
use crate::link::way::Shape;
use crate::run::command::Binding;
use crate::run::transfer::{Direction, Transfer};
use crate::run::{Course, Inputs};

/// Longest time for which a bulk transfer alone is measured.
const BULK_WINDOW: Duration = Duration::from_secs(10);

/// What is the same in every cell.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) window: Duration,
    pub(super) inputs_per_second: f64,
    pub(super) seed: u64,
    pub(super) program: Arc<Path>,
}

impl Settings {
    /// What goes on in a session.
    pub(super) fn course(&self, show: &Show, transfer: Option<Transfer>) -> Course {
        Course {
            source: show.source.clone(),
            interval: show.interval,
            window: self.window,
            inputs: Inputs::every(self.inputs_per_second),
            window_log: tandem_codec::WINDOW_LOG_MAX,
            transfer: transfer.map(Arc::new),
            padding: None,
            answers: false,
            breaks: false,
        }
    }

    /// Links and a relay for a session.
    pub(super) fn network(&self, shapes: &[Shape]) -> anyhow::Result<Network> {
        Network::start(shapes, self.seed, &self.program)
    }
}

/// One cell of a matrix.
#[derive(Clone, Debug)]
pub(super) struct Cell {
    pub(super) binding: Binding,
    pub(super) side: Behind,
    pub(super) shape: Shape,
    /// `None`: noise that fills this link.
    pub(super) show: Option<Show>,
    pub(super) transfer: Option<Direction>,
}

impl Cell {
    pub(super) fn conditions(&self) -> Conditions {
        let source = self.show.as_ref().map_or("noise", |show| &show.name);
        Conditions::new(self.binding, self.side, &self.shape, source)
    }

    /// Whether a line is this cell's.
    pub(super) fn is_in(&self, line: &Line) -> bool {
        let transfer = self.transfer.map(|direction| if direction == Direction::Up { "up" } else { "down" });
        line.conditions == self.conditions() && line.with_file.as_deref() == transfer && line.preset.is_none()
    }

    /// A session across the links, and with loss a bulk transfer too.
    pub(super) async fn measure(&self, settings: &Settings) -> anyhow::Result<Line> {
        let show = match &self.show {
            Some(show) => show.clone(),
            None => Show::noise_for(self.shape.rate, settings.seed),
        };
        let network = settings.network(&vec![self.shape; self.side.links() as usize])?;
        let course = settings.course(&show, self.transfer.map(|way| self.transfer_to(way)));
        let played = network.play(&self.scene(course)).await?;
        let technician = played.technicians.first().context("no technician")?;
        let mut line =
            Line::new(self.conditions(), settings.window, technician, &played.customer, self.transfer);
        line.blame(&network, &played)?;
        drop(network);
        if self.shape.loss > 0.0 {
            let (bulk, failures) = self.measure_bulk(settings).await?;
            line.bulk_mbit = Some(bulk);
            line.failures.extend(failures);
        }
        Ok(line)
    }

    /// A file from customer to technician and nothing else, over links that lose the same packets.
    async fn measure_bulk(&self, settings: &Settings) -> anyhow::Result<(f64, Vec<String>)> {
        let settings =
            Settings { window: settings.window.min(BULK_WINDOW), inputs_per_second: 0.0, ..settings.clone() };
        let network = settings.network(&vec![self.shape; self.side.links() as usize])?;
        let course = settings.course(&Show::still(), Some(self.transfer_to(Direction::Down)));
        let played = network.play(&Scene { blackout: false, ..self.scene(course) }).await?;
        let technician = played.technicians.first().context("no technician")?;
        let failures = [&played.customer.failures[..], &technician.failures].concat();
        Ok((mbit(technician.file_bytes, settings.window), failures))
    }

    /// A transfer that fills the links and what is in front of them.
    fn transfer_to(&self, direction: Direction) -> Transfer {
        let round_trip = self.shape.delay * 2 * self.side.links();
        let rate = self.shape.rate.bits_per_second() as f64 / 8.0;
        Transfer::new(direction, (rate * round_trip.as_secs_f64()) as u64)
    }

    fn scene(&self, course: Course) -> Scene {
        let (customer, technician) = match self.side {
            Behind::Technician => (Place::Near, Place::Behind(0)),
            Behind::Customer => (Place::Behind(0), Place::Near),
            Behind::Both => (Place::Behind(0), Place::Behind(1)),
        };
        Scene {
            course,
            transport: self.binding.transport(),
            customer,
            technicians: vec![Seat::at(technician)],
            shows_past: false,
            blackout: true,
            lead: Duration::ZERO,
        }
    }
}
