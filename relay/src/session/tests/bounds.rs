//! What a session holds for its people and their displays, however many of them come and go.

use super::*;

fn word(sender: Sender, seq: u64) -> Record {
    plain(sender, types::CHAT, seq, Flags::default())
}

#[test]
fn the_lanes_of_whoever_has_left_end_after_what_waits_in_them() {
    let mut scene = Scene::new();
    let customer = scene.join(CUSTOMER, Role::Customer);
    let _lead = scene.join(ANNA, Role::Lead);
    for sender in (10..500).map(Sender) {
        let mut person = scene.join(sender, Role::Collaborator);
        scene.grant(&customer, sender, rights(), 1, false);
        for kind in [LaneKind::Chat, LaneKind::Peer, LaneKind::Clipboard] {
            let lane = scene.open(&mut person, kind);
            scene.give(&person, lane, &word(sender, 0));
        }
        scene.say(&person, control::Message::End(message::End::default()));
        let waits = scene.take(&customer).iter().filter(|(kind, _)| *kind != LaneKind::Control).count();
        assert_eq!(waits, 3, "the last words of {sender}");
        let open = scene.session.outbox(customer.seat).unwrap().open_lanes();
        assert_eq!(open, [], "after {sender}");
    }
}

#[test]
fn lanes_that_are_about_no_display_name_none() {
    let mut scene = Scene::new();
    let customer = scene.join(CUSTOMER, Role::Customer);
    let anna = scene.join(ANNA, Role::Lead);
    for (person, kind) in [(&anna, LaneKind::Peer), (&anna, LaneKind::Input), (&customer, LaneKind::Cursor)] {
        let sender = person.seat.sender;
        for key in [
            LaneKey::screen(kind, DisplayId(1), Rendition::LIVE, sender),
            LaneKey::screen(kind, DisplayId(0), Rendition::REDUCED, sender),
        ] {
            let breach = scene.session.lane_opened(person.seat, LaneInstance(9), key).unwrap_err();
            assert_eq!(breach.close, Close::PROTOCOL, "{key:?}");
        }
    }
}

#[test]
fn displays_that_do_not_exist_take_no_place_of_those_that_do() {
    let mut scene = Scene::new();
    let customer = scene.join(CUSTOMER, Role::Customer);
    let sees = |scene: &mut Scene, person: &Person, display: u32| {
        scene.say(person, control::Message::Visible(Visible { display, visible: true, focused: true }));
    };
    let most = limits::DISPLAYS_MAX as u32;
    for round in 0..20 {
        // A connection may name so many in its life.
        let anna = scene.join(ANNA, Role::Lead);
        scene.grant(&customer, ANNA, rights(), 1, false);
        (0..most).for_each(|display| sees(&mut scene, &anna, 1000 + most * round + display));
        assert!(scene.session.displays.len() <= 2 * limits::DISPLAYS_MAX, "{}", scene.session.displays.len());
    }
    let anna = scene.join(ANNA, Role::Lead);
    sees(&mut scene, &anna, 5);
    let asked = |message: control::Message| matches!(message, control::Message::Want(want) if want.on && want.display == 5);
    assert!(scene.messages(&customer).into_iter().any(asked), "one that may exist is asked for");
    for display in 0..limits::DISPLAYS_MAX as u16 {
        let key = LaneKey::screen(LaneKind::Screen, DisplayId(display), Rendition::LIVE, CUSTOMER);
        scene.session.lane_opened(customer.seat, LaneInstance(50 + u64::from(display)), key).unwrap();
    }
    let one_more = LaneKey::screen(LaneKind::Screen, DisplayId(99), Rendition::LIVE, CUSTOMER);
    let breach = scene.session.lane_opened(customer.seat, LaneInstance(99), one_more).unwrap_err();
    assert_eq!(breach.close, Close::LIMIT);
}
