//! Sharing work.

use super::{Opened, group, next_number, numbered, pattern, publish, subscribe};

pub async fn a_group_shares_its_messages_fairly(transport: Opened) {
    const MEMBERS: usize = 4;
    const MESSAGES: u64 = 400;
    let mut observer = subscribe(&transport, pattern("work")).await;
    let (sender, mut handled) = tokio::sync::mpsc::unbounded_channel();
    let mut members = tokio::task::JoinSet::new();
    for member in 0..MEMBERS {
        let mut share = subscribe(&transport, group("work", "g")).await;
        let handled = sender.clone();
        members.spawn(async move {
            loop {
                let n = next_number(&mut share).await;
                handled.send((member, n)).unwrap();
                tokio::task::yield_now().await;
            }
        });
    }
    for n in 0..MESSAGES {
        let receipt = publish(&transport, numbered("work", n)).await.unwrap();
        assert_eq!(receipt.receivers, Some(2), "a group counts as one receiver");
        assert_eq!(next_number(&mut observer).await, n);
    }
    let mut shares = [0; MEMBERS];
    let mut seen = std::collections::HashSet::new();
    for _ in 0..MESSAGES {
        let (member, n) = super::guarded("a share of the work", handled.recv())
            .await
            .unwrap();
        shares[member] += 1;
        assert!(seen.insert(n), "message {n} was handled twice");
    }
    assert!(
        shares.iter().all(|share| *share >= 10),
        "one-sided: {shares:?}"
    );
}

pub async fn a_group_is_one_receiver_whatever_its_patterns(transport: Opened) {
    let mut literal = subscribe(&transport, group("a.b", "g")).await;
    let mut wild = subscribe(&transport, group("a.*", "g")).await;
    for n in 0..10 {
        let receipt = publish(&transport, numbered("a.b", n)).await.unwrap();
        assert_eq!(receipt.receivers, Some(1));
    }
    let mut seen = Vec::new();
    for _ in 0..5 {
        seen.push(next_number(&mut literal).await);
        seen.push(next_number(&mut wild).await);
    }
    seen.sort_unstable();
    assert_eq!(seen, (0..10).collect::<Vec<_>>());
}

pub async fn work_is_left_to_the_group_when_a_member_goes(transport: Opened) {
    let idle = subscribe(&transport, group("left", "g")).await;
    let mut busy = subscribe(&transport, group("left", "g")).await;
    drop(idle);
    for n in 0..20 {
        publish(&transport, numbered("left", n)).await.unwrap();
    }
    let mut seen = Vec::new();
    for _ in 0..20 {
        seen.push(next_number(&mut busy).await);
    }
    seen.sort_unstable();
    assert_eq!(seen, (0..20).collect::<Vec<_>>());
}
