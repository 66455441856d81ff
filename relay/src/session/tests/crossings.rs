//! Who goes over to the other rendition and back.

use super::*;

const REDUCED: LaneInstance = LaneInstance(60);

fn reduced(seq: u64, kind: ScreenKind) -> Record {
    let screen = ScreenHeader { display: DisplayId(0), rendition: Rendition::REDUCED, segment: 1, kind };
    let header =
        Header { screen: Some(screen), ..plain(CUSTOMER, types::SCREEN, seq, Flags::default()).header };
    Record::new(header, &[0; 54])
}

/// Lets time pass, as a connection does that asks for it. What the customer is asked for meanwhile.
fn wait(scene: &mut Scene, customer: &Person, time: Duration) -> Vec<message::Want> {
    let (mut wants, until) = (Vec::new(), scene.now + time);
    while scene.now < until {
        scene.now += Duration::from_millis(100);
        scene.session.tick(scene.now);
        let told = scene.messages(customer).into_iter().filter_map(|message| match message {
            control::Message::Want(want) => Some(want),
            _ => None,
        });
        wants.extend(told);
    }
    wants
}

#[test]
fn live_waits_for_the_last_of_reduced_that_leads_there() {
    let (mut scene, customer, anna, lane) = sharing();
    let ben = scene.join(BEN, Role::Collaborator);
    scene.grant(&customer, BEN, rights(), 1, false);
    scene.watch(&ben);
    scene.give(&customer, lane, &screen(1, 1, BLACK));
    scene.take(&anna);
    scene.take(&ben);
    // He takes nothing for a while.
    scene.give(&customer, lane, &screen(2, 1, ScreenKind::Update));
    scene.take(&anna);
    let wants = wait(&mut scene, &customer, Duration::from_secs(2));
    assert!(wants.iter().any(|want| want.start && want.rendition == 1), "{wants:?}");
    let key = LaneKey::screen(LaneKind::Screen, DisplayId(0), Rendition::REDUCED, CUSTOMER);
    scene.session.lane_opened(customer.seat, REDUCED, key).unwrap();
    scene.give(&customer, REDUCED, &reduced(0, from(1, 2)));
    let slot = |scene: &mut Scene, rendition| {
        let lanes = scene.session.outbox(ben.seat).unwrap().open_lanes();
        let of = |key: &LaneKey| key.kind == LaneKind::Screen && key.rendition == rendition;
        lanes.into_iter().find_map(|(slot, key)| of(&key).then_some(slot)).unwrap()
    };
    assert_eq!(scene.records(&ben, LaneKind::Screen).len(), 2, "the last of live and the first of reduced");
    let [to_live, to_reduced] = [Rendition::LIVE, Rendition::REDUCED].map(|of| slot(&mut scene, of));
    // One more is taken and not written yet when both have rested and are brought together.
    scene.give(&customer, REDUCED, &reduced(1, ScreenKind::Update));
    let pull = |scene: &mut Scene, slot| scene.session.pull(ben.seat, slot, scene.now);
    assert!(matches!(pull(&mut scene, to_reduced), Pull::Record(_)));
    let wants = wait(&mut scene, &customer, Duration::from_secs(4));
    assert!(wants.iter().any(|want| want.merge_into.is_some()), "{wants:?}");
    let there = Point { rendition: Rendition::REDUCED, segment: 1, seq: 1 };
    scene.give(&customer, lane, &screen(3, 2, ScreenKind::Start { from: Some(there) }));
    assert!(
        matches!(pull(&mut scene, to_live), Pull::Nothing),
        "it would take the path from what leads there"
    );
    // Asked for more, that has been written.
    assert!(matches!(pull(&mut scene, to_reduced), Pull::Nothing));
    assert!(matches!(pull(&mut scene, to_live), Pull::Record(_)));
}
