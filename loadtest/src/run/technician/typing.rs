//! What a technician types, each event when it is due, and the answers that it waits for.

use std::collections::VecDeque;
use std::time::Instant;

use prost::Message as _;
use tandem_client::Outgoing;
use tandem_protocol::message::{CursorPosition, Motion, Position, Right, types};
use tandem_protocol::{LaneKey, LaneKind, Record, Sender};

use super::duty::Parting;
use super::{LAST_INPUT, Technician};
use crate::report::series::Kind;

impl Technician {
    /// Sends what is due of the window's input.
    pub(super) fn send_input(&mut self, now: Instant) {
        let Some(window) = self.window().filter(|_| self.duty.controls && !self.over) else { return };
        let goes = self.parts_at.is_some_and(|(at, how)| how == Parting::Leaves && at <= now + LAST_INPUT);
        if !self.rights.has(Right::Control) && (self.figures.restarts > 0 || self.part.course.breaks) || goes
        {
            // What is due while it may not send, nobody types.
            let next = self.part.course.inputs.first_from(window, now).min(self.part.inputs());
            self.figures.inputs_withheld += u64::from(next.saturating_sub(self.next_input));
            self.next_input = self.next_input.max(next);
            return;
        }
        while self.next_input < self.part.inputs() {
            let number = self.next_input;
            let due = self.part.course.inputs.due(window, number);
            if due > now {
                return;
            }
            if !self.rights.has(Right::Control) {
                self.fail("no control was granted");
                self.over = true;
                return;
            }
            self.next_input += 1;
            self.part.was_due(due, now);
            let position = Position { display: 0, generation: 0, x: number as i32, y: 0 };
            let body = Motion { position: Some(position) }.encode_to_vec();
            let lane = LaneKey::plain(LaneKind::Input, Sender::RELAY);
            match self.handle.send(lane, Outgoing::message(types::MOTION, &body)) {
                Ok(_) => {
                    self.figures.inputs_sent += 1;
                    self.unanswered.extend(self.part.course.answers.then_some((number, due)));
                }
                // Nobody hears it while the relay is gone.
                Err(_) if self.part.course.breaks => self.figures.inputs_refused += 1,
                Err(why) => self.fail(format_args!("input {number}: {why}")),
            }
        }
    }

    /// The pointer is where an input event put it: that answers all before it too, since only the newest position is sent, and whoever
    /// moved it waited for each.
    pub(super) fn answer(&mut self, record: &Record, came: Instant) {
        let position = (record.header.record_type == types::CURSOR_POSITION)
            .then(|| CursorPosition::decode(record.body()).ok());
        let number = position.flatten().and_then(|position| u32::try_from(position.x).ok());
        let Some(number) = number else { return };
        for due in answered(&mut self.unanswered, number) {
            self.part.record(Kind::Answer, due, came.saturating_duration_since(due));
        }
    }

    /// What has no answer by now gets none.
    pub(super) fn give_up_answers(&mut self) {
        self.figures.inputs_unanswered += self.unanswered.len() as u64;
        self.unanswered.clear();
    }
}

/// Takes those that an answer to this one answers too, and says when they were due.
fn answered(
    unanswered: &mut VecDeque<(u32, Instant)>,
    number: u32,
) -> impl Iterator<Item = Instant> + use<'_> {
    std::iter::from_fn(move || unanswered.pop_front_if(|&mut (first, _)| first <= number)).map(|(_, due)| due)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn an_answer_answers_all_that_waited_for_one_and_none_twice() {
        let start = Instant::now();
        let due = |number: u32| start + Duration::from_millis(20) * number;
        let mut unanswered: VecDeque<_> = [3, 4, 6].map(|number| (number, due(number))).into();
        assert_eq!(answered(&mut unanswered, 2).count(), 0, "of before this visit");
        assert_eq!(answered(&mut unanswered, 5).collect::<Vec<_>>(), [due(3), due(4)]);
        assert_eq!(answered(&mut unanswered, 5).count(), 0);
        assert_eq!(answered(&mut unanswered, u32::MAX).collect::<Vec<_>>(), [due(6)]);
    }
}
