//! One replica by hand, then several against a server that loses things, by thousands of seeds.

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn held_by(holder: Option<&str>, version: u64, renewed: i64) -> Seen {
    Seen {
        version: version.to_string(),
        holder: holder.map(str::to_owned),
        renewed: Some(Timestamp::from_second(renewed).unwrap()),
        duration: 10 * SECOND,
        address: holder.map(|holder| format!("{holder}:9900")),
    }
}

fn time(renewed: i64) -> Timestamp {
    Timestamp::from_second(renewed).unwrap()
}

/// A replica that took the lease, as version 1, at the moment that is given back.
fn leader() -> (Candidacy, Instant) {
    let now = Instant::now();
    let mut a = Candidacy::new("a", now);
    assert_eq!(a.next(now), Action::Look);
    a.looked(None, now);
    assert_eq!(a.next(now), Action::Write { over: None });
    a.wrote(Outcome::Written(held_by(Some("a"), 1, 1)), time(1), now, now + SECOND);
    assert_eq!(a.leads_until(now), Some(now + 7 * SECOND), "since it was sent");
    (a, now)
}

#[test]
fn a_lease_is_renewed_every_two_seconds_and_not_after_the_deadline() {
    let (mut a, now) = leader();
    assert_eq!(a.next(now + SECOND), Action::Wait(now + 2 * SECOND));
    let over = Some("1".to_owned());
    assert_eq!(a.next(now + 2 * SECOND), Action::Write { over });
    a.wrote(Outcome::Unknown, time(2), now + 2 * SECOND, now + 5 * SECOND);
    assert!(matches!(a.next(now + 6 * SECOND), Action::Write { .. }));
    a.wrote(Outcome::Unknown, time(3), now + 6 * SECOND, now + 7 * SECOND);
    assert_eq!(a.leads_until(now + 7 * SECOND), None);
    let over = Some("1".to_owned());
    assert_eq!(
        a.next(now + 7 * SECOND),
        Action::Write { over },
        "for another term, if nobody wrote since"
    );
    a.wrote(Outcome::Conflict, time(4), now + 7 * SECOND, now + 8 * SECOND);
    assert_eq!(a.next(now + 8 * SECOND), Action::Look);
}

#[test]
fn an_answer_that_comes_too_late_makes_no_leader() {
    let (mut a, now) = leader();
    let thawed = now + 60 * SECOND;
    assert_eq!(a.leads_until(thawed), None);
    a.wrote(
        Outcome::Written(held_by(Some("a"), 2, 2)),
        time(2),
        now + 2 * SECOND,
        thawed,
    );
    assert_eq!(a.leads_until(thawed), None);
}

#[test]
fn a_renewal_whose_answer_was_lost_is_recognized() {
    let (mut a, now) = leader();
    a.wrote(Outcome::Unknown, time(2), now + 2 * SECOND, now + 3 * SECOND);
    a.wrote(Outcome::Conflict, time(3), now + 4 * SECOND, now + 4 * SECOND);
    assert_eq!(a.next(now + 4 * SECOND), Action::Look);
    a.looked(Some(held_by(Some("a"), 2, 2)), now + 4 * SECOND);
    assert_eq!(
        a.leads_until(now + 4 * SECOND),
        Some(now + 9 * SECOND),
        "since that one was sent"
    );
    let over = Some("2".to_owned());
    assert_eq!(a.next(now + 4 * SECOND), Action::Write { over });
}

#[test]
fn who_finds_what_it_did_not_write_leads_no_more() {
    for lease in [
        Some(held_by(Some("b"), 2, 2)),
        Some(held_by(Some("a"), 2, 0)), // an older copy was put back
        Some(held_by(None, 2, 2)),
        None,
    ] {
        let (mut a, now) = leader();
        a.wrote(Outcome::Conflict, time(2), now + 2 * SECOND, now + 2 * SECOND);
        assert_eq!(a.next(now + 2 * SECOND), Action::Look);
        assert!(a.leads_until(now + 2 * SECOND).is_some(), "it may have been us");
        a.looked(lease.clone(), now + 2 * SECOND);
        assert_eq!(a.leads_until(now + 2 * SECOND), None, "{lease:?}");
    }
}

#[test]
fn a_lease_that_is_renewed_is_left_alone_whatever_its_clock_says() {
    let now = Instant::now();
    let mut b = Candidacy::new("b", now);
    for second in 0..100_u32 {
        let at = now + second * SECOND;
        assert_eq!(b.next(at), Action::Look);
        // The holder's clock stands still in 1970.
        b.looked(Some(held_by(Some("a"), u64::from(second / 5), 0)), at);
        assert_eq!(b.next(at), Action::Wait(at + SECOND));
        assert_eq!(b.leader(at), Some("a:9900"));
    }
}

#[test]
fn a_lease_that_rests_is_taken_after_its_duration_and_not_before() {
    let now = Instant::now();
    let mut b = Candidacy::new("b", now);
    let mut at = now;
    loop {
        match b.next(at) {
            Action::Look => b.looked(Some(held_by(Some("a"), 7, 5)), at),
            Action::Wait(until) => at = until,
            Action::Write { over } => break assert_eq!(over.as_deref(), Some("7")),
        }
    }
    assert_eq!(
        at,
        now + 10 * SECOND,
        "since it was first seen: it may have been renewed just then"
    );
    assert_eq!(b.leader(at), None);
}

#[test]
fn a_lease_that_is_free_is_taken_at_once() {
    for lease in [held_by(None, 7, 5), held_by(Some("b"), 7, 5)] {
        let now = Instant::now();
        let mut b = Candidacy::new("b", now);
        b.looked(Some(lease), now);
        let over = Some("7".to_owned());
        assert_eq!(b.next(now), Action::Write { over });
        // Somebody was quicker.
        b.wrote(Outcome::Conflict, time(6), now, now);
        assert_eq!(b.next(now), Action::Look);
        b.looked(Some(held_by(Some("c"), 8, 6)), now);
        assert_eq!(b.next(now), Action::Wait(now + SECOND));
    }
}

#[test]
fn a_lease_that_is_deleted_is_still_held_for_its_duration() {
    let now = Instant::now();
    let mut b = Candidacy::new("b", now);
    b.looked(Some(held_by(Some("a"), 7, 5)), now);
    b.looked(None, now + SECOND);
    assert_eq!(b.leader(now + SECOND), None);
    assert_eq!(b.next(now + SECOND), Action::Wait(now + 2 * SECOND));
    b.looked(None, now + 10 * SECOND);
    assert_eq!(b.next(now + 10 * SECOND), Action::Write { over: None });
}

#[test]
fn a_server_that_refuses_connections_is_not_asked_all_the_time() {
    let now = Instant::now();
    let mut b = Candidacy::new("b", now);
    b.looked_in_vain(now);
    assert_eq!(b.next(now), Action::Wait(now + SECOND / 2));
    let (mut a, now) = leader();
    a.wrote(Outcome::Unknown, time(2), now + 2 * SECOND, now + 2 * SECOND);
    assert_eq!(a.next(now + 2 * SECOND), Action::Wait(now + 2 * SECOND + SECOND / 2));
}

/// Chance, from a seed that a failure prints.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

/// The lease, as a server keeps it, and what is on its way to it.
#[derive(Default)]
struct Server {
    lease: Option<Seen>,
    version: u64,
    on_their_way: Vec<(u64, usize, Request)>,
}

impl Server {
    /// What arrives is carried out, whether or not anybody waits for it any more.
    fn carry_out(&mut self, at: u64, replicas: &mut [Replica]) {
        let (arrived, on_their_way) = std::mem::take(&mut self.on_their_way)
            .into_iter()
            .partition(|(arrives, ..)| *arrives <= at);
        self.on_their_way = on_their_way;
        for (_, from, request) in arrived {
            let replica = &mut replicas[from];
            let answer = match &request {
                Request::Look => Answer::Lease(self.lease.clone()),
                Request::Write { over, renewed } => Answer::Write(self.write(over.as_deref(), replica.name, *renewed)),
            };
            if let Some(pending) = replica.pending.as_mut().filter(|pending| pending.request == request) {
                pending.answer = Some(answer);
            }
        }
    }

    fn write(&mut self, over: Option<&str>, holder: &str, renewed: Timestamp) -> Outcome {
        if self.lease.as_ref().map(|lease| lease.version.as_str()) != over {
            return Outcome::Conflict;
        }
        self.version += 1;
        let lease = Seen {
            renewed: Some(renewed),
            ..held_by(Some(holder), self.version, 0)
        };
        self.lease = Some(lease.clone());
        Outcome::Written(lease)
    }
}

#[derive(Clone, PartialEq)]
enum Request {
    Look,
    Write { over: Option<String>, renewed: Timestamp },
}

enum Answer {
    Lease(Option<Seen>),
    Write(Outcome),
}

/// A request that is waited for.
struct Pending {
    request: Request,
    sent: Instant,
    until: u64,
    answer: Option<Answer>,
}

struct Replica {
    name: &'static str,
    core: Candidacy,
    began: Instant,
    /// Its clock runs faster or slower, in thousandths.
    pace: u32,
    /// Asleep until then.
    frozen_until: u64,
    pending: Option<Pending>,
    writes: i64,
}

/// Milliseconds of simulated time, and of one step.
const END: u64 = 120_000;
const STEP: usize = 10;

impl Replica {
    fn now(&self, at: u64) -> Instant {
        self.began + Duration::from_micros(at * u64::from(self.pace))
    }

    fn step(&mut self, dice: &mut Dice, at: u64, calm: bool) -> Option<(u64, Request)> {
        if at < self.frozen_until {
            return None;
        }
        if !calm && dice.roll(2_000) == 0 {
            self.frozen_until = at + dice.roll(40_000);
            return None;
        }
        let now = self.now(at);
        if self.pending.as_ref().is_some_and(|pending| at < pending.until) {
            return None;
        }
        if let Some(Pending {
            request, sent, answer, ..
        }) = self.pending.take()
        {
            let lost = !calm && dice.roll(5) == 0;
            match (request, answer.filter(|_| !lost)) {
                (Request::Look, Some(Answer::Lease(lease))) => self.core.looked(lease, now),
                (Request::Look, _) => self.core.looked_in_vain(now),
                (Request::Write { renewed, .. }, Some(Answer::Write(outcome))) => {
                    self.core.wrote(outcome, renewed, sent, now);
                }
                (Request::Write { renewed, .. }, _) => self.core.wrote(Outcome::Unknown, renewed, sent, now),
            }
        }
        let request = match self.core.next(now) {
            Action::Wait(_) => return None,
            Action::Look => Request::Look,
            Action::Write { over } => {
                self.writes += 1;
                let renewed = time(self.writes);
                Request::Write { over, renewed }
            }
        };
        let on_the_way = |dice: &mut Dice| {
            if calm || dice.roll(4) > 0 {
                dice.roll(50)
            } else {
                dice.roll(5_000)
            }
        };
        let arrives = at + on_the_way(dice);
        self.pending = Some(Pending {
            request: request.clone(),
            sent: now,
            until: (arrives + on_the_way(dice)).min(at + 3_000),
            answer: None,
        });
        (calm || dice.roll(10) > 0).then_some((arrives, request))
    }
}

/// Replicas with clocks of different speed that freeze, whose requests arrive late or never, and whose answers are lost.
fn simulate(seed: u64) {
    let mut dice = Dice(seed * 2_654_435_761 + 1);
    let mut server = Server::default();
    let began = Instant::now();
    let replica = |name| Replica {
        name,
        core: Candidacy::new(name, began),
        began,
        pace: 950 + u32::try_from(dice.roll(100)).unwrap(),
        frozen_until: 0,
        pending: None,
        writes: 0,
    };
    let mut replicas: Vec<Replica> = ["a", "b", "c"].into_iter().map(replica).collect();
    let mut led = 0;
    for at in (0..END).step_by(STEP) {
        server.carry_out(at, &mut replicas);
        for (from, replica) in replicas.iter_mut().enumerate() {
            let sent = replica.step(&mut dice, at, at > END - 40_000);
            server
                .on_their_way
                .extend(sent.map(|(arrives, request)| (arrives, from, request)));
        }
        let leaders = replicas
            .iter()
            .filter(|one| one.core.leads_until(one.now(at)).is_some());
        let leaders: Vec<_> = leaders.map(|one| one.name).collect();
        assert!(leaders.len() <= 1, "seed {seed}: {leaders:?} lead at {at} ms");
        led += leaders.len();
    }
    let awake = replicas.iter().any(|one| one.frozen_until < END - 20_000);
    let leads = replicas.iter().any(|one| one.core.leads_until(one.now(END)).is_some());
    assert!(leads || !awake, "seed {seed}: nobody leads although everything answers");
    assert!(led > 1_000, "seed {seed}: somebody led for {led} of 12000 steps");
}

#[test]
fn never_do_two_lead_and_soon_somebody_does() {
    for seed in 0..400 {
        simulate(seed);
    }
}
