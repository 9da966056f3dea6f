use proptest::prelude::*;

use super::*;

fn run(limits: Limits, arrivals: &[(u64, bool)]) -> (Vec<u64>, Option<ReassemblyError>, bool) {
    let mut stream = Reassembly::new(limits);
    let mut read = Vec::new();
    let mut ended = None;
    for &(seq, is_final) in arrivals {
        if let Err(error) = stream.accept(seq, is_final, seq) {
            ended = Some(error);
            break;
        }
        read.extend(std::iter::from_fn(|| stream.pop_ready()));
    }
    (read, ended, stream.is_finished())
}

fn check(arrivals: &[(u64, bool)], read: &[u64], finished: bool) {
    let (got, error, done) = run(Limits::default(), arrivals);
    assert_eq!(
        (got.as_slice(), error, done),
        (read, None, finished),
        "{arrivals:?}"
    );
}

#[test]
fn order_is_restored() {
    check(
        &[(0, false), (2, false), (1, false), (4, true), (3, false)],
        &[0, 1, 2, 3, 4],
        true,
    );
}

#[test]
fn duplicates_and_late_frames_are_dropped() {
    check(
        &[(0, false), (0, false), (1, false), (0, false), (2, true)],
        &[0, 1, 2],
        true,
    );
    check(
        &[(2, true), (2, true), (1, false), (0, false)],
        &[0, 1, 2],
        true,
    );
}

#[test]
fn nothing_follows_the_final_frame() {
    check(
        &[(0, false), (1, true), (2, false), (1, true)],
        &[0, 1],
        true,
    );
    check(&[(2, false), (0, false), (1, true)], &[0, 1], true);
}

#[test]
fn without_the_final_mark_the_stream_goes_on() {
    check(&[(0, false), (1, false)], &[0, 1], false);
}

#[test]
fn a_gap_of_1024_is_too_large_and_1023_is_not() {
    let limits = Limits::default();
    let (read, error, _) = run(limits, &[(0, false), (1025, false)]);
    assert_eq!(read, [0]);
    assert_eq!(
        error,
        Some(ReassemblyError::GapTooLarge {
            seq: 1025,
            expected: 1,
            limit: 1024
        })
    );
    assert_eq!(
        run(limits, &[(0, false), (1024, false)]),
        (vec![0], None, false)
    );
}

#[test]
fn a_full_buffer_still_takes_the_frame_that_is_due() {
    let limits = Limits {
        pending_frames_max: 3,
        sequence_gap_max: 0,
    };
    let waiting = [(1, false), (2, false), (3, false)];
    let (read, error, _) = run(limits, &[&waiting[..], &[(4, false)]].concat());
    assert!(read.is_empty());
    assert_eq!(
        error,
        Some(ReassemblyError::PendingFull {
            seq: 4,
            expected: 0,
            limit: 3
        })
    );
    let (read, error, _) = run(limits, &[&waiting[..], &[(0, false)]].concat());
    assert_eq!((read, error), (vec![0, 1, 2, 3], None));
}

proptest! {
    /// Any order within the limits, with any duplicates, reads as 0..n once each.
    #[test]
    fn any_order_reads_the_same(
        mut arrivals in (1_u64..200).prop_flat_map(|n| {
            let all: Vec<u64> = (0..n).collect();
            let twice = proptest::collection::vec(0..n, 0..50);
            (Just(all).prop_shuffle(), twice)
        }).prop_map(|(mut all, twice)| { all.extend(twice); all }),
        rotate in 0_usize..50,
    ) {
        let turn = rotate % arrivals.len();
        arrivals.rotate_left(turn);
        let last = *arrivals.iter().max().unwrap();
        let frames: Vec<_> = arrivals.iter().map(|&seq| (seq, seq == last)).collect();
        let (read, error, finished) = run(Limits::default(), &frames);
        prop_assert_eq!(error, None);
        prop_assert!(finished);
        prop_assert_eq!(read, (0..=last).collect::<Vec<_>>());
    }

    /// Nothing after a lost frame is ever read.
    #[test]
    fn a_lost_frame_stops_the_reader(n in 2_u64..300, lost in 0_u64..300) {
        let lost = lost % n;
        let frames: Vec<_> =
            (0..n).filter(|&seq| seq != lost).map(|seq| (seq, seq + 1 == n)).collect();
        let (read, _, finished) = run(Limits::default(), &frames);
        prop_assert_eq!(read, (0..lost).collect::<Vec<_>>());
        prop_assert!(!finished);
    }
}
