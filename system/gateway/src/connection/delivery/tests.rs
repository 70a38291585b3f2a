//! Stories of one device's delivery, without sockets.
use super::*;
use chat_protocol::{ConvId, UserId};

const AGAIN: Duration = Duration::from_secs(2);

fn page(resume: Resume, epoch: u64, after: u64, top: u64) -> node::Page {
    node::Page { device: 1, conn: 1, resume: resume.into(), epoch, after, top, items: Vec::new() }
}

fn joined_at(after: u64) -> (Delivery, Instant) {
    let now = Instant::now();
    let mut delivery = Delivery::new(HoleRule::Pull, AGAIN, None, now);
    assert!(delivery.take_wanted(true, now).is_some());
    assert_eq!(
        delivery.page_opens(&page(Resume::New, 7, after, after), now),
        Opening::Welcome(Resume::New)
    );
    delivery.page_ends(after);
    assert_eq!(delivery.take_caught_up(), Some(after));
    (delivery, now)
}

fn mark(user: u64, delivered: u64) -> node::Mark {
    let conv = ConvId::direct(UserId(1), UserId(user)).unwrap();
    node::Mark { conv: conv.to_bytes().to_vec().into(), who: 1, delivered, notify: user }
}

#[test]
fn only_the_next_position_is_written() {
    let (mut delivery, now) = joined_at(4);
    assert_eq!(delivery.pushed(7, 5, true), Pushed::Write);
    delivery.wrote(5, None, now);
    assert_eq!(delivery.pushed(7, 5, true), Pushed::Old);
    assert_eq!(delivery.pushed(7, 7, true), Pushed::Hole);
    let (wanted, repeated) = delivery.take_wanted(true, now).unwrap();
    assert_eq!(wanted, Wanted { resume: false, cursor: Some((7, 5)), limit: PAGE_ITEMS });
    assert!(!repeated);
    assert!(delivery.take_wanted(true, now).is_none(), "one pull at a time");
}

#[test]
fn a_hole_is_not_pulled_where_pushes_are_trusted() {
    let now = Instant::now();
    let mut delivery = Delivery::new(HoleRule::TrustPushes, AGAIN, None, now);
    delivery.take_wanted(true, now).unwrap();
    delivery.page_opens(&page(Resume::New, 7, 0, 0), now);
    delivery.page_ends(0);
    assert_eq!(delivery.pushed(7, 3, true), Pushed::Write);
    delivery.wrote(3, None, now);
    assert!(delivery.take_wanted(true, now).is_none());
}

#[test]
fn a_full_window_drops_pushes_and_pulls_when_half_is_free() {
    let (mut delivery, now) = joined_at(0);
    for dseq in 1..=u64::from(UNACKED_MAX) {
        assert_eq!(delivery.pushed(7, dseq, true), Pushed::Write);
        delivery.wrote(dseq, None, now);
    }
    assert_eq!(delivery.pushed(7, 257, true), Pushed::Credit);
    assert!(delivery.take_wanted(true, now).is_none());
    delivery.acked_up_to(127, now).unwrap();
    assert!(delivery.take_wanted(true, now).is_none());
    delivery.acked_up_to(128, now).unwrap();
    let (wanted, _) = delivery.take_wanted(true, now).unwrap();
    assert_eq!(wanted.cursor, Some((7, 256)));
}

#[test]
fn an_ack_beyond_what_was_sent_is_refused() {
    let (mut delivery, now) = joined_at(4);
    assert_eq!(delivery.acked_up_to(5, now), Err(BeyondSent));
    assert_eq!(delivery.acked_up_to(3, now), Ok(Vec::new()));
}

#[test]
fn marks_are_the_highest_of_each_conversation() {
    let (mut delivery, now) = joined_at(0);
    for (dseq, mark) in [(1, mark(2, 10)), (2, mark(3, 1)), (3, mark(2, 11)), (4, mark(2, 12))] {
        delivery.wrote(dseq, Some(mark), now);
    }
    assert_eq!(delivery.acked_up_to(3, now).unwrap(), [mark(2, 11), mark(3, 1)]);
    assert_eq!(delivery.acked_up_to(4, now).unwrap(), [mark(2, 12)]);
    assert_eq!(delivery.recent_marks(), [mark(3, 1), mark(2, 12)]);
}

#[test]
fn what_was_pushed_while_a_page_was_on_its_way_is_pulled_after_it() {
    let (mut delivery, now) = joined_at(0);
    assert_eq!(delivery.pushed(7, 2, true), Pushed::Hole);
    delivery.take_wanted(true, now).unwrap();
    assert_eq!(delivery.pushed(7, 3, true), Pushed::Hole);
    assert_eq!(delivery.page_opens(&page(Resume::Continued, 7, 0, 2), now), Opening::Continue);
    delivery.wrote(1, None, now);
    delivery.wrote(2, None, now);
    delivery.page_ends(2);
    assert_eq!(delivery.take_wanted(true, now).unwrap().0.cursor, Some((7, 2)));
}

#[test]
fn a_renumbered_queue_resets_the_device_and_goes_on() {
    let (mut delivery, now) = joined_at(9);
    assert_eq!(delivery.pushed(8, 1, true), Pushed::Epoch);
    let (wanted, _) = delivery.take_wanted(true, now).unwrap();
    assert_eq!(wanted, Wanted { resume: true, cursor: Some((7, 9)), limit: PAGE_ITEMS });
    assert_eq!(
        delivery.page_opens(&page(Resume::Rebased, 8, 0, 1), now),
        Opening::Reset { lost: false }
    );
    assert_eq!(delivery.paged(1, true), Pushed::Write);
    delivery.wrote(1, None, now);
    delivery.page_ends(1);
    assert_eq!(delivery.pushed(8, 2, true), Pushed::Write);
    assert_eq!(delivery.pushed(7, 10, true), Pushed::Epoch);
    assert!(delivery.take_wanted(true, now).is_none(), "an older epoch asks for nothing");
}

#[test]
fn what_is_pushed_between_the_first_page_and_its_arrival_is_pulled() {
    let now = Instant::now();
    let mut delivery = Delivery::new(HoleRule::Pull, AGAIN, None, now);
    delivery.take_wanted(true, now).unwrap();
    assert_eq!(delivery.pushed(7, 1, true), Pushed::Joining);
    // The page was read before the item was stored.
    delivery.page_opens(&page(Resume::New, 7, 0, 0), now);
    delivery.page_ends(0);
    let (wanted, _) = delivery.take_wanted(true, now).unwrap();
    assert_eq!(wanted, Wanted { resume: false, cursor: Some((7, 0)), limit: PAGE_ITEMS });
}

#[test]
fn what_is_pushed_while_a_renumbered_queue_is_paged_is_pulled() {
    let (mut delivery, now) = joined_at(9);
    assert_eq!(delivery.pushed(8, 1, true), Pushed::Epoch);
    delivery.take_wanted(true, now).unwrap();
    assert_eq!(delivery.pushed(8, 2, true), Pushed::Epoch);
    delivery.page_opens(&page(Resume::Rebased, 8, 0, 1), now);
    delivery.wrote(1, None, now);
    delivery.page_ends(1);
    assert_eq!(delivery.take_wanted(true, now).unwrap().0.cursor, Some((8, 1)));
}

#[test]
fn a_page_older_than_the_newest_epoch_is_followed_by_another() {
    let (mut delivery, now) = joined_at(9);
    assert_eq!(delivery.pushed(8, 1, true), Pushed::Epoch);
    delivery.take_wanted(true, now).unwrap();
    assert_eq!(delivery.pushed(9, 1, true), Pushed::Epoch);
    delivery.page_opens(&page(Resume::Rebased, 8, 0, 0), now);
    delivery.page_ends(0);
    let (wanted, _) = delivery.take_wanted(true, now).unwrap();
    assert_eq!((wanted.resume, wanted.cursor), (true, Some((8, 0))));
}

#[test]
fn an_epoch_heard_of_while_a_hole_is_paged_is_not_forgotten() {
    let (mut delivery, now) = joined_at(0);
    assert_eq!(delivery.pushed(7, 2, true), Pushed::Hole);
    delivery.take_wanted(true, now).unwrap();
    assert_eq!(delivery.pushed(8, 1, true), Pushed::Epoch);
    assert_eq!(delivery.page_opens(&page(Resume::Continued, 7, 0, 2), now), Opening::Continue);
    delivery.wrote(1, None, now);
    delivery.wrote(2, None, now);
    delivery.page_ends(2);
    assert!(delivery.take_wanted(true, now).unwrap().0.resume);
    // The store is believed when it says that there is no such epoch.
    delivery.page_opens(&page(Resume::Ok, 7, 2, 2), now);
    delivery.page_ends(2);
    assert!(delivery.take_wanted(true, now).is_none());
}

#[test]
fn a_pull_without_answer_is_repeated() {
    let (mut delivery, now) = joined_at(0);
    delivery.verify();
    delivery.take_wanted(true, now).unwrap();
    assert!(delivery.take_wanted(true, now + AGAIN / 2).is_none());
    assert!(delivery.take_wanted(true, now + AGAIN).unwrap().1);
}

#[test]
fn a_store_that_does_not_answer_is_asked_again_later() {
    let (mut delivery, now) = joined_at(0);
    delivery.verify();
    delivery.take_wanted(true, now).unwrap();
    assert_eq!(delivery.page_opens(&page(Resume::Unavailable, 0, 0, 0), now), Opening::Skip);
    assert!(delivery.take_wanted(true, now).is_none());
    assert!(delivery.take_wanted(true, now + AGAIN).is_some());
}

#[test]
fn pages_go_on_until_the_top_and_then_the_device_is_caught_up() {
    let now = Instant::now();
    let mut delivery = Delivery::new(HoleRule::Pull, AGAIN, Some((7, 2)), now);
    let (wanted, _) = delivery.take_wanted(true, now).unwrap();
    assert_eq!(wanted, Wanted { resume: true, cursor: Some((7, 2)), limit: PAGE_ITEMS });
    delivery.page_opens(&page(Resume::Ok, 7, 2, 4), now);
    assert_eq!(delivery.paged(3, true), Pushed::Write);
    delivery.wrote(3, None, now);
    delivery.page_ends(4);
    assert_eq!(delivery.take_caught_up(), None);
    let (wanted, _) = delivery.take_wanted(true, now).unwrap();
    assert_eq!(wanted.cursor, Some((7, 3)));
    delivery.page_opens(&page(Resume::Continued, 7, 3, 4), now);
    delivery.wrote(4, None, now);
    delivery.page_ends(4);
    assert_eq!(delivery.take_caught_up(), Some(4));
    assert_eq!(delivery.take_caught_up(), None);
}
