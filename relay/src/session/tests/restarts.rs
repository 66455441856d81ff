//! A relay that knows nothing of a session whose people come back: screens go on without keys.

use super::*;

fn live(seq: u64) -> Point {
    Point { rendition: Rendition::LIVE, segment: 3, seq }
}

fn update(seq: u64) -> Record {
    screen(seq, 3, ScreenKind::Update)
}

/// The customer comes back: it keeps what follows update 5, and had sent up to update 8.
fn customer(scene: &mut Scene) -> Person {
    let keeps = vec![Keeping { display: DisplayId(0), after: live(5), next_seq: 9 }];
    scene.return_with(CUSTOMER, Role::Customer, Join { keeps, ..Join::default() })
}

/// Somebody comes back who shows this update.
fn watcher(scene: &mut Scene, sender: Sender, seq: u64) -> Person {
    let showing = vec![Showing { display: DisplayId(0), epoch: u64::from(CUSTOMER.0), point: live(seq) }];
    let person = scene.return_with(sender, Role::Collaborator, Join { showing, ..Join::default() });
    scene.watch(&person);
    person
}

fn received(scene: &mut Scene, customer: &Person) -> Vec<u64> {
    let welcome = scene.messages(customer).into_iter().find_map(|message| match message {
        control::Message::Welcome(welcome) => Some(welcome),
        _ => None,
    });
    welcome.unwrap().received.iter().map(|position| position.next_seq).collect()
}

fn wants_key(scene: &mut Scene, customer: &Person) -> bool {
    let wants = |message| matches!(message, control::Message::Want(want) if want.key);
    scene.messages(customer).into_iter().any(wants)
}

fn seqs(scene: &mut Scene, person: &Person) -> Vec<u64> {
    scene.records(person, LaneKind::Screen).iter().map(|record| record.header.seq).collect()
}

#[test]
fn who_shows_what_the_publisher_goes_on_from_needs_no_key_whoever_comes_first() {
    for customer_first in [true, false] {
        let mut scene = Scene::new();
        let mut early = (!customer_first).then(|| watcher(&mut scene, ANNA, 7));
        let mut customer = customer(&mut scene);
        assert_eq!(received(&mut scene, &customer), [6]);
        let anna = early.take().unwrap_or_else(|| watcher(&mut scene, ANNA, 7));
        scene.grant(&customer, ANNA, rights(), 1, false);
        assert!(!wants_key(&mut scene, &customer), "what she shows is on its way");
        let lane = scene.open(&mut customer, LaneKind::Screen);
        for seq in 6..9 {
            scene.give(&customer, lane, &update(seq));
        }
        // Who comes a little later shows the last of these.
        let ben = watcher(&mut scene, BEN, 8);
        scene.grant(&customer, BEN, rights(), 1, false);
        scene.give(&customer, lane, &update(9));
        assert_eq!(seqs(&mut scene, &anna), [8, 9]);
        assert_eq!(seqs(&mut scene, &ben), [9]);
        assert!(!wants_key(&mut scene, &customer));
    }
}

#[test]
fn a_start_that_comes_again_costs_whoever_shows_it_no_key() {
    let mut scene = Scene::new();
    let mut customer = customer(&mut scene);
    let showing = Point { segment: 4, ..live(7) };
    let showing = vec![Showing { display: DisplayId(0), epoch: u64::from(CUSTOMER.0), point: showing }];
    let anna = scene.return_with(ANNA, Role::Collaborator, Join { showing, ..Join::default() });
    scene.watch(&anna);
    scene.grant(&customer, ANNA, rights(), 1, false);
    let lane = scene.open(&mut customer, LaneKind::Screen);
    scene.give(&customer, lane, &update(6));
    scene.give(&customer, lane, &screen(7, 4, from(3, 6)));
    scene.give(&customer, lane, &screen(8, 4, ScreenKind::Update));
    assert_eq!(seqs(&mut scene, &anna), [8]);
    assert!(!wants_key(&mut scene, &customer));
}

#[test]
fn who_comes_back_late_is_shown_what_came_after_they_may_see() {
    for (late, sees) in [(9, true), (11, false)] {
        let mut scene = Scene::new();
        let mut customer = customer(&mut scene);
        let lane = scene.open(&mut customer, LaneKind::Screen);
        for seq in 6..9 {
            scene.give(&customer, lane, &update(seq));
        }
        scene.now += Duration::from_secs(late);
        // From black: so it can be shown to whoever may.
        scene.give(&customer, lane, &screen(9, 4, ScreenKind::Start { from: None }));
        let anna = scene.return_with(ANNA, Role::Collaborator, Join::default());
        let ben = scene.return_with(BEN, Role::Collaborator, Join::default());
        scene.watch(&anna);
        scene.watch(&ben);
        scene.grant(&customer, ANNA, rights(), 1, false);
        assert_eq!(seqs(&mut scene, &anna), if sees { vec![9] } else { Vec::new() }, "{late}");
        // And who is there in time, but may see only later.
        scene.now += Duration::from_secs(2);
        scene.grant(&customer, BEN, rights(), 1, false);
        assert_eq!(seqs(&mut scene, &ben), [0_u64; 0]);
    }
}

#[test]
fn a_screen_at_rest_goes_on_with_the_next_change() {
    let mut scene = Scene::new();
    let keeps = vec![Keeping { display: DisplayId(0), after: live(5), next_seq: 6 }];
    let mut customer = scene.return_with(CUSTOMER, Role::Customer, Join { keeps, ..Join::default() });
    let anna = watcher(&mut scene, ANNA, 5);
    scene.grant(&customer, ANNA, rights(), 1, false);
    scene.now += Duration::from_secs(60);
    scene.session.tick(scene.now);
    let lane = scene.open(&mut customer, LaneKind::Screen);
    scene.give(&customer, lane, &update(6));
    assert_eq!(seqs(&mut scene, &anna), [6]);
    assert!(!wants_key(&mut scene, &customer));
}

#[test]
fn who_shows_anything_else_gets_a_key() {
    for shown in [2, 4, 9] {
        let mut scene = Scene::new();
        let mut customer = customer(&mut scene);
        let anna = watcher(&mut scene, ANNA, shown);
        scene.grant(&customer, ANNA, rights(), 1, false);
        assert!(wants_key(&mut scene, &customer), "{shown}");
        let lane = scene.open(&mut customer, LaneKind::Screen);
        scene.give(&customer, lane, &update(6));
        assert_eq!(seqs(&mut scene, &anna), [0_u64; 0]);
        scene.give(&customer, lane, &screen(7, 4, from(3, 6)));
        let key = LaneInstance(50);
        scene.session.lane_opened(customer.seat, key, LaneKey::plain(LaneKind::Key, CUSTOMER)).unwrap();
        scene.give(&customer, key, &screen(6, 4, ScreenKind::Key));
        let taken = scene.take(&anna).into_iter().filter(|(kind, _)| kind.is_screen());
        assert_eq!(taken.map(|(kind, _)| kind).collect::<Vec<_>>(), [LaneKind::Key, LaneKind::Screen]);
    }
}

#[test]
fn what_a_publisher_says_that_it_keeps_changes_nothing_of_what_is_known() {
    let (mut scene, customer, anna, _) = sharing();
    scene.session.detach(customer.seat, scene.now);
    let keeps = vec![
        Keeping { display: DisplayId(0), after: live(5), next_seq: 9 },
        Keeping {
            display: DisplayId(1),
            after: Point { rendition: Rendition::REDUCED, ..live(5) },
            next_seq: 9,
        },
    ];
    let customer =
        scene.return_with(CUSTOMER, Role::Customer, Join { keeps: keeps.clone(), ..Join::default() });
    assert_eq!(received(&mut scene, &customer), [1]);
    // Nor does what somebody says who publishes nothing.
    scene.session.detach(anna.seat, scene.now);
    let keeps = vec![Keeping { display: DisplayId(7), ..keeps[0] }];
    scene.return_with(ANNA, Role::Lead, Join { keeps, ..Join::default() });
    assert!(!scene.session.displays.contains_key(&DisplayId(7)));
}
