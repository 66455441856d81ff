//! Whether video may be sent: everybody who may see the screen must have said that they decode it. Plain state.

use std::collections::BTreeSet;

use tandem_protocol::Sender;
use tandem_protocol::message::{Capabilities, Right, Rights, Roster};

/// Who sees the screen, and who of them decodes H.264.
#[derive(Debug, Default)]
pub struct Audience {
    viewers: BTreeSet<Sender>,
    decoders: BTreeSet<Sender>,
}

impl Audience {
    /// Who is there now.
    pub fn roster(&mut self, roster: &Roster) {
        let sender = |number: u32| u16::try_from(number).ok().map(Sender);
        let others = || roster.participants.iter().filter(|participant| !participant.publisher);
        let sees = |rights: &[i32]| Rights::from_wire(rights).has(Right::View);
        self.viewers = others()
            .filter(|participant| participant.online && sees(&participant.rights))
            .filter_map(|participant| sender(participant.sender))
            .collect();
        let here: BTreeSet<Sender> = others().filter_map(|participant| sender(participant.sender)).collect();
        self.decoders.retain(|who| here.contains(who));
    }

    /// What somebody decodes.
    pub fn told(&mut self, who: Sender, capabilities: &Capabilities) {
        if capabilities.h264_levels.is_empty() {
            self.decoders.remove(&who);
        } else {
            self.decoders.insert(who);
        }
    }

    /// Whether all who see the screen decode video.
    pub fn takes_video(&self) -> bool {
        !self.viewers.is_empty() && self.viewers.is_subset(&self.decoders)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tandem_protocol::message::Participant;

    fn roster(viewers: &[(u32, bool)]) -> Roster {
        let participant = |&(sender, sees): &(u32, bool)| Participant {
            sender,
            online: true,
            rights: if sees { Rights::of(&[Right::View]).to_wire() } else { Vec::new() },
            ..Participant::default()
        };
        let customer = Participant { sender: 1, online: true, publisher: true, ..Participant::default() };
        let participants = viewers.iter().map(participant).chain([customer]).collect();
        Roster { participants, ..Roster::default() }
    }

    fn h264(levels: &[u32]) -> Capabilities {
        Capabilities { h264_levels: levels.to_vec(), ..Capabilities::default() }
    }

    #[test]
    fn video_is_for_those_who_all_decode_it() {
        let mut audience = Audience::default();
        assert!(!audience.takes_video(), "nobody is there");
        audience.roster(&roster(&[(2, true)]));
        assert!(!audience.takes_video(), "who has said nothing may not decode it");
        audience.told(Sender(2), &h264(&[51]));
        assert!(audience.takes_video());
        audience.roster(&roster(&[(2, true), (3, false)]));
        assert!(audience.takes_video(), "who sees nothing has no say");
        audience.roster(&roster(&[(2, true), (3, true)]));
        assert!(!audience.takes_video());
        audience.told(Sender(3), &h264(&[]));
        assert!(!audience.takes_video());
        audience.roster(&roster(&[(2, true)]));
        assert!(audience.takes_video(), "the other has gone");
    }

    #[test]
    fn who_comes_again_says_it_again() {
        let mut audience = Audience::default();
        audience.roster(&roster(&[(2, true)]));
        audience.told(Sender(2), &h264(&[51]));
        audience.roster(&roster(&[]));
        audience.roster(&roster(&[(2, true)]));
        assert!(!audience.takes_video());
    }
}
