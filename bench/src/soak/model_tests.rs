//! The model of the soak: what it takes for true, and that it notices.

use super::event::Event;
use super::model::Model;

/// A log that has the records 100 to 104 at 0 to 4, then whatever `said` says.
fn model(said: &[Event]) -> Model {
    let mut model = Model::default();
    for event in [Event::Survey, Event::Ready] {
        model.hear(event);
    }
    for acked in [false, true] {
        model.hear(Event::Create { log: 1, acked });
    }
    model.hear(Event::Append { log: 1, seq: 100, count: 5 });
    model.hear(Event::Acked { log: 1, lsn: 0 });
    said.iter().for_each(|event| model.hear(*event));
    model
}

/// What is said against a log found with `seqs` from `start` on.
fn against(said: &[Event], start: u64, seqs: &[u64]) -> u64 {
    let mut model = model(said);
    model.hear(Event::Survey);
    model.hear(Event::Found { log: 1, start, next: start + seqs.len() as u64 });
    for (lsn, seq) in (start..).zip(seqs) {
        model.hear(Event::Run { log: 1, lsn, seq: *seq, count: 1 });
    }
    model.hear(Event::Ready);
    assert_eq!(model.disagreements as usize, model.told.len());
    model.disagreements
}

const ALL: [u64; 5] = [100, 101, 102, 103, 104];

#[test]
fn acked_records_are_there_in_order_and_nothing_else() {
    assert_eq!(against(&[], 0, &ALL), 0);
    assert_eq!(against(&[], 0, &ALL[..4]), 1, "one is lost");
    assert_eq!(against(&[], 0, &[100, 101, 103, 102, 104]), 1, "out of order");
    assert_eq!(against(&[], 0, &[100, 101, 102, 103, 104, 105]), 1, "from nowhere");
    assert_eq!(against(&[], 1, &ALL[1..]), 1, "nobody truncated");
}

#[test]
fn of_what_was_announced_a_prefix_of_whole_appends_may_be_there() {
    let said = [105, 107].map(|seq| Event::Append { log: 1, seq, count: 2 });
    for (there, wrong) in [(5, 0), (6, 1), (7, 0), (8, 1), (9, 0)] {
        let seqs: Vec<u64> = (100..100 + there).collect();
        assert_eq!(against(&said, 0, &seqs), wrong, "{there}");
    }
    assert_eq!(against(&said, 0, &[100, 101, 102, 103, 104, 107, 108]), 1, "not the first");
}

#[test]
fn starts_and_cuts_have_happened_once_acked_and_may_have_before() {
    for (event, acked) in [(false, 0), (true, 1)]
        .map(|(acked, wrong)| (Event::Truncate { log: 1, lsn: 2, acked }, wrong))
    {
        assert_eq!(against(&[event], 2, &ALL[2..]), 0);
        assert_eq!(against(&[event], 0, &ALL), acked, "the old start came back");
        assert_eq!(against(&[event], 3, &ALL[3..]), 1, "too far");
    }
    for (event, acked) in
        [(false, 0), (true, 1)].map(|(acked, wrong)| (Event::Cut { log: 1, lsn: 3, acked }, wrong))
    {
        assert_eq!(against(&[event], 0, &ALL[..3]), 0);
        assert_eq!(against(&[event], 0, &ALL), acked, "what was cut came back");
        assert_eq!(against(&[event], 0, &ALL[..2]), 1, "too far");
    }
    let cut_with_appends_under_way =
        [Event::Append { log: 1, seq: 105, count: 1 }, Event::Cut { log: 1, lsn: 4, acked: false }];
    for seqs in [&ALL[..4], &ALL[..], &[100, 101, 102, 103, 104, 105]] {
        assert_eq!(against(&cut_with_appends_under_way, 0, seqs), 0, "{seqs:?}");
    }
}

#[test]
fn a_deleted_log_is_gone_and_comes_back_empty() {
    let gone = |acked| Event::Delete { log: 1, acked };
    assert_eq!(against(&[gone(false)], 0, &ALL), 0, "it was not acked");
    assert_eq!(against(&[gone(false), gone(true)], 0, &ALL), 1, "it came back");
    let again = Event::Create { log: 1, acked: false };
    assert_eq!(against(&[gone(true), again], 0, &[]), 0);
    assert_eq!(against(&[gone(true), again], 0, &ALL), 1, "with its records");
    let mut model = model(&[]);
    model.hear(Event::Survey);
    model.hear(Event::Ready);
    assert_eq!(model.disagreements, 1, "a log is gone that nobody deleted: {:?}", model.told);
}

#[test]
fn an_ack_at_another_lsn_is_told() {
    let append = Event::Append { log: 1, seq: 105, count: 1 };
    let said = model(&[append, Event::Acked { log: 1, lsn: 6 }]);
    assert_eq!(said.disagreements, 1);
}
