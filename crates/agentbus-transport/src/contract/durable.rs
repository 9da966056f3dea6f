//! Subscriptions with a name that outlives them.

use super::abilities::{check_refusal, if_able};
use super::needs::{DURABLE_LISTING, DURABLE_REMOVAL, PRIORITY, meets};
use super::{
    Opened, durable, guarded, is_misuse, next_number, number, numbered, pattern, publish, reached,
    receive, subscribe,
};
use crate::{Capability, Priority, Received, Start};

pub async fn a_durable_name_gets_what_came_while_nobody_listened(transport: Opened) {
    let Some(first) = if_able(&transport, durable("away", "d")).await else {
        return;
    };
    drop(first);
    for n in 0..20 {
        publish(&transport, numbered("away", n)).await.unwrap();
    }
    let mut again = subscribe(&transport, durable("away", "d")).await;
    for n in 0..20 {
        assert_eq!(next_number(&mut again).await, n);
    }
}

pub async fn a_durable_name_goes_on_after_what_it_settled(transport: Opened) {
    let Some(mut first) = if_able(&transport, durable("goes-on", "d")).await else {
        return;
    };
    for n in 0..10 {
        publish(&transport, numbered("goes-on", n)).await.unwrap();
    }
    for n in 0..4 {
        assert_eq!(next_number(&mut first).await, n);
    }
    drop(first);
    let mut again = subscribe(&transport, durable("goes-on", "d")).await;
    for n in 4..10 {
        assert_eq!(next_number(&mut again).await, n);
    }
}

pub async fn what_a_durable_name_left_unsettled_comes_again(transport: Opened) {
    let Some(mut first) = if_able(&transport, durable("unsettled", "d")).await else {
        return;
    };
    for n in 0..3 {
        publish(&transport, numbered("unsettled", n)).await.unwrap();
    }
    let held = [receive(&mut first).await, receive(&mut first).await];
    drop(first);
    drop(held);
    let mut again = subscribe(&transport, durable("unsettled", "d")).await;
    let mut seen = Vec::new();
    for _ in 0..3 {
        let delivery = receive(&mut again).await;
        seen.push((number(&delivery), delivery.attempt()));
        delivery.ack().await.unwrap();
    }
    seen.sort_unstable();
    // The third was at most on its way.
    let third = if transport.capabilities().exact_attempts {
        1..=1
    } else {
        1..=2
    };
    assert_eq!(seen[..2], [(0, 2), (1, 2)]);
    assert!(seen[2].0 == 2 && third.contains(&seen[2].1), "{seen:?}");
}

pub async fn durable_names_each_get_everything(transport: Opened) {
    let Some(mut one) = if_able(&transport, durable("each", "one")).await else {
        return;
    };
    let mut two = subscribe(&transport, durable("each", "two")).await;
    let mut plain = subscribe(&transport, pattern("each")).await;
    for n in 0..10 {
        let receipt = publish(&transport, numbered("each", n)).await.unwrap();
        assert!(reached(receipt, 3), "{receipt:?}");
    }
    for n in 0..10 {
        assert_eq!(next_number(&mut one).await, n);
        assert_eq!(next_number(&mut two).await, n);
        assert_eq!(next_number(&mut plain).await, n);
    }
}

pub async fn a_durable_name_that_nobody_uses_is_a_receiver(transport: Opened) {
    let Some(first) = if_able(&transport, durable("counts", "d")).await else {
        return;
    };
    drop(first);
    let required = crate::PublishOptions {
        require_responder: true,
        ..crate::PublishOptions::default()
    };
    let receipt = super::publish_with(&transport, numbered("counts", 1), required).await;
    assert!(reached(receipt.unwrap(), 1));
}

pub async fn members_of_a_durable_name_share_its_messages(transport: Opened) {
    let member = || {
        let mut request = durable("shared", "d");
        request.group = Some("g".into());
        request.prefetch = 1;
        request
    };
    let Some(mut one) = if_able(&transport, member()).await else {
        return;
    };
    let mut two = subscribe(&transport, member()).await;
    for n in 0..20 {
        let receipt = publish(&transport, numbered("shared", n)).await.unwrap();
        assert!(reached(receipt, 1), "{receipt:?}");
    }
    let mut seen = Vec::new();
    for _ in 0..10 {
        let held = [receive(&mut one).await, receive(&mut two).await];
        for delivery in held {
            seen.push(number(&delivery));
            delivery.ack().await.unwrap();
        }
    }
    seen.sort_unstable();
    assert_eq!(seen, (0..20).collect::<Vec<_>>());
}

pub async fn a_member_that_goes_leaves_its_messages_to_the_others(transport: Opened) {
    let member = || {
        let mut request = durable("inherit", "d");
        request.group = Some("g".into());
        request.prefetch = 2;
        request
    };
    let Some(mut going) = if_able(&transport, member()).await else {
        return;
    };
    let mut staying = subscribe(&transport, member()).await;
    for n in 0..6 {
        publish(&transport, numbered("inherit", n)).await.unwrap();
    }
    let held = receive(&mut going).await;
    let was = number(&held);
    drop(going);
    drop(held);
    let mut seen = Vec::new();
    for _ in 0..6 {
        let delivery = receive(&mut staying).await;
        // What was on its way to the one that went may count as tried, too.
        let first = if number(&delivery) == was { 2 } else { 1 };
        let attempt = delivery.attempt();
        assert!(
            (first..=2).contains(&attempt),
            "attempt {attempt} of message {}",
            number(&delivery)
        );
        seen.push(number(&delivery));
        delivery.ack().await.unwrap();
    }
    seen.sort_unstable();
    assert_eq!(seen, [0, 1, 2, 3, 4, 5]);
}

pub async fn a_member_that_holds_enough_does_not_keep_others_asleep(transport: Opened) {
    let member = || {
        let mut request = durable("enough", "d");
        request.group = Some("g".into());
        request.prefetch = 1;
        request
    };
    let Some(mut full) = if_able(&transport, member()).await else {
        return;
    };
    publish(&transport, numbered("enough", 1)).await.unwrap();
    let held = receive(&mut full).await;
    // It waits for more than it may hold, and is first in the line: a remote carrier could give the
    // first message to any member that is there.
    let mut greedy = tokio::spawn(async move { full.receive().await.is_some() });
    tokio::task::yield_now().await;
    let mut idle = subscribe(&transport, member()).await;
    for n in 2..5 {
        publish(&transport, numbered("enough", n)).await.unwrap();
        assert_eq!(next_number(&mut idle).await, n);
    }
    assert!(!greedy.is_finished(), "it was given more than it may hold");
    held.ack().await.unwrap();
    // A remote carrier would send the next one ahead to the idle member as well.
    drop(idle);
    publish(&transport, numbered("enough", 5)).await.unwrap();
    assert!(guarded("its turn", &mut greedy).await.unwrap());
}

pub async fn a_durable_name_without_group_has_one_user(transport: Opened) {
    let Some(first) = if_able(&transport, durable("alone", "d")).await else {
        return;
    };
    let error = transport
        .subscribe(durable("alone", "d"))
        .await
        .unwrap_err();
    assert!(is_misuse(&error), "{error}");
    drop(first);
    drop(subscribe(&transport, durable("alone", "d")).await);
}

pub async fn a_durable_name_keeps_its_pattern(transport: Opened) {
    let Some(first) = if_able(&transport, durable("kept", "d")).await else {
        return;
    };
    drop(first);
    let error = transport
        .subscribe(durable("other", "d"))
        .await
        .unwrap_err();
    assert!(is_misuse(&error), "{error}");
    assert!(error.to_string().contains("acp.v1.events.kept"), "{error}");
}

pub async fn a_durable_name_may_have_wildcards(transport: Opened) {
    let Some(mut wild) = if_able(&transport, durable("wild.*.x", "d")).await else {
        return;
    };
    for (n, tail) in (0..).zip(["wild.a.x", "wild.a.y", "wild.x", "wild.b.x"]) {
        publish(&transport, numbered(tail, n)).await.unwrap();
    }
    assert_eq!(
        (next_number(&mut wild).await, next_number(&mut wild).await),
        (0, 3)
    );
}

pub async fn a_durable_name_begins_where_it_was_asked_to(transport: Opened) {
    for n in 0..5 {
        publish(&transport, numbered("begin", n)).await.unwrap();
    }
    let mut request = durable("begin", "old");
    request.start = Start::Beginning;
    let Some(mut old) = if_able(&transport, request.clone()).await else {
        return;
    };
    let mut new = subscribe(&transport, durable("begin", "new")).await;
    publish(&transport, numbered("begin", 5)).await.unwrap();
    assert_eq!(next_number(&mut new).await, 5);
    for n in 0..6 {
        assert_eq!(next_number(&mut old).await, n);
    }
    // A name that is known goes on, wherever it is asked to begin.
    drop(old);
    let mut again = subscribe(&transport, request).await;
    super::expect_nothing_before(&transport, &mut again, "begin", 6).await;
}

pub async fn a_slow_durable_name_does_not_slow_its_publishers(transport: Opened) {
    let mut request = durable("patient", "d");
    request.capacity = 8;
    request.prefetch = 8;
    let Some(mut slow) = if_able(&transport, request).await else {
        return;
    };
    for n in 0..500 {
        publish(&transport, numbered("patient", n)).await.unwrap();
    }
    for n in 0..500 {
        assert_eq!(next_number(&mut slow).await, n);
    }
}

pub async fn a_higher_priority_overtakes_in_a_durable_name(transport: Opened) {
    if !meets(&transport, PRIORITY) {
        return;
    }
    let Some(first) = if_able(&transport, durable("lanes-kept", "d")).await else {
        return;
    };
    drop(first);
    for n in 0..300 {
        publish(&transport, numbered("lanes-kept", n))
            .await
            .unwrap();
    }
    for (n, priority) in (1000..).zip(Priority::ALL) {
        let mut message = numbered("lanes-kept", n);
        message.priority = priority;
        publish(&transport, message).await.unwrap();
    }
    let mut again = subscribe(&transport, durable("lanes-kept", "d")).await;
    let mut seen = Vec::new();
    for _ in 0..306 {
        seen.push(next_number(&mut again).await);
    }
    let mut expected = vec![1005, 1004, 1003];
    expected.extend(0..300);
    expected.extend([1002, 1001, 1000]);
    assert_eq!(seen, expected);
}

pub async fn an_expired_message_is_never_live_in_a_durable_name(transport: Opened) {
    let Some(first) = if_able(&transport, durable("late-kept", "d")).await else {
        return;
    };
    drop(first);
    let message = super::settling::publish_expiring(&transport, numbered("late-kept", 1)).await;
    super::settling::passed(&message).await;
    publish(&transport, numbered("late-kept", 2)).await.unwrap();
    let mut again = subscribe(&transport, durable("late-kept", "d")).await;
    loop {
        match guarded("a delivery", again.receive()).await {
            Some(Received::Live(delivery)) => break assert_eq!(number(&delivery), 2),
            Some(Received::Expired(delivery)) => assert_eq!(number(&delivery), 1),
            other => panic!("{other:?}"),
        }
    }
}

pub async fn a_delivery_has_its_number_in_the_log(transport: Opened) {
    let Some(mut all) = if_able(&transport, durable("numbers", "d")).await else {
        return;
    };
    let mut last = None;
    for n in 0..10 {
        let receipt = publish(&transport, numbered("numbers", n)).await.unwrap();
        let delivery = receive(&mut all).await;
        assert_eq!(delivery.sequence(), receipt.sequence);
        // Where there is no log to read again, there are no numbers either.
        if transport.capabilities().replay {
            assert!(delivery.sequence() > last, "numbers ascend");
        } else {
            assert_eq!(delivery.sequence(), None);
        }
        last = delivery.sequence();
        delivery.ack().await.unwrap();
    }
}

pub async fn a_durable_name_that_was_removed_begins_anew(transport: Opened) {
    let remove = async || guarded("a removal", transport.remove_durable("d")).await;
    if !meets(&transport, DURABLE_REMOVAL) {
        let refused = remove().await.unwrap_err();
        return check_refusal(&transport, Capability::DurableRemoval, &refused);
    }
    let kept = subscribe(&transport, durable("removed", "d")).await;
    publish(&transport, numbered("removed", 1)).await.unwrap();
    let in_use = remove().await.unwrap_err();
    assert!(is_misuse(&in_use), "{in_use}");
    drop(kept);
    remove().await.unwrap();
    let unknown = remove().await.unwrap_err();
    assert!(is_misuse(&unknown), "{unknown}");
    let mut anew = subscribe(&transport, durable("removed", "d")).await;
    publish(&transport, numbered("removed", 2)).await.unwrap();
    assert_eq!(next_number(&mut anew).await, 2);
}

pub async fn durable_names_are_listed_with_how_far_they_are(transport: Opened) {
    let list = async || guarded("a list", transport.durables()).await;
    if !meets(&transport, DURABLE_LISTING) {
        let refused = list().await.unwrap_err();
        return check_refusal(&transport, Capability::DurableListing, &refused);
    }
    assert!(list().await.unwrap().is_empty());
    let mut shared = durable("listed", "b");
    shared.group = Some("g".into());
    let _shared = subscribe(&transport, shared).await;
    let mut left = subscribe(&transport, durable("listed", "a")).await;
    // A name that not every server takes as it is.
    drop(subscribe(&transport, durable("listed", "c \"d\".*")).await);
    for n in 1..=2 {
        publish(&transport, numbered("listed", n)).await.unwrap();
    }
    assert_eq!(next_number(&mut left).await, 1);
    drop(left);
    // All have the second to settle yet, handed out or not. A server may count it a moment later.
    let counted = async {
        loop {
            let listed = list().await.unwrap();
            if listed.iter().all(|it| it.unsettled > 0 || it.behind > 0) {
                break listed;
            }
            tokio::task::yield_now().await;
        }
    };
    let listed = guarded("a count of what is unsettled", counted).await;
    let told = listed.iter().map(|it| {
        assert_eq!(it.pattern, "acp.v1.events.listed");
        (it.name.as_str(), it.group.as_deref(), it.members)
    });
    let told: Vec<_> = told.collect();
    // A carrier knows who uses names, or says of none that it does.
    let knows = listed.iter().any(|it| it.members.is_some());
    let users = |count: usize| knows.then_some(count);
    let expected = [
        ("a", None, users(0)),
        ("b", Some("g"), users(1)),
        ("c \"d\".*", None, users(0)),
    ];
    assert_eq!(told, expected);
}
