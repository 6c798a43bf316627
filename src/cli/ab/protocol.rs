//! The coordinator's end of the protocol with both sides.

use tokio_util::sync::CancellationToken;

use super::{
    child::{Child, SideEnd},
    sides::SideProcess,
};
use crate::{
    cli::side::{Event, PROTOCOL},
    plan::turns::Planned,
    sample::Side,
};

/// How long a side may take to say hello, which a bootrace does first of all.
const HELLO: std::time::Duration = std::time::Duration::from_secs(30);

/// Why an A/B ended early.
pub enum Broken {
    /// A signal.
    Stopped,
    /// A side ended early, or sent an unexpected event.
    Lost {
        side: Side,
        why: Option<String>,
    },
    /// The sides can't be paired.
    Mismatched(String),
    Other(anyhow::Error),
}

/// Both children, base first.
pub struct Protocol {
    children: Vec<Child>,
    stop: CancellationToken,
    /// The coordinator has given the first turn.
    pub begun: bool,
}

impl Protocol {
    pub fn new(stop: &CancellationToken) -> Self {
        Protocol { children: Vec::new(), stop: stop.clone(), begun: false }
    }

    /// Starts a side and waits until it is ready for its first turn.
    pub async fn prepare(
        &mut self,
        side_process: &SideProcess,
    ) -> Result<(Vec<Planned>, Vec<String>), Broken> {
        let child = Child::start(side_process.side, &side_process.start, &side_process.arguments)
            .map_err(Broken::Other)?;
        self.children.push(child);
        let received = tokio::time::timeout(HELLO, self.receive(side_process.side)).await;
        if let Err(broken) = check_hello(side_process.side, received.ok()) {
            // Before its hello a bootrace makes nothing that needs a clean-up.
            self.of(side_process.side).kill();
            return Err(broken);
        }
        match self.receive(side_process.side).await? {
            Event::Ready { trials, warnings } => Ok((trials, warnings)),
            other => Err(unexpected(side_process.side, &other)),
        }
    }

    /// Gives a side its turn; returns when its trial is done and its instance removed.
    pub async fn trial(&mut self, side: Side, trial: usize) -> Result<Event, Broken> {
        self.of(side).go().await;
        match self.receive(side).await? {
            event @ Event::Done { trial: reported, .. } if reported == trial => Ok(event),
            other => Err(unexpected(side, &other)),
        }
    }

    fn of(&mut self, side: Side) -> &mut Child {
        &mut self.children[side as usize]
    }

    /// The next event of a side. Meanwhile the other side must neither send an event nor end.
    async fn receive(&mut self, side: Side) -> Result<Event, Broken> {
        let (base, new) = self.children.split_at_mut(1);
        let (base, new) = (base.first_mut(), new.first_mut());
        let (one, other) = if side == Side::Base { (base, new) } else { (new, base) };
        let Some(one) = one else { return Err(Broken::Lost { side, why: None }) };
        let others = async {
            match other {
                Some(other) => other.receive().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = self.stop.cancelled() => Err(Broken::Stopped),
            event = one.receive() => match event {
                Some(Ok(event)) => Ok(event),
                Some(Err(why)) => Err(Broken::Lost { side, why: Some(why) }),
                None => Err(Broken::Lost { side, why: None }),
            },
            event = others => match event {
                Some(Ok(event)) => Err(unexpected(side.other(), &event)),
                Some(Err(why)) => Err(Broken::Lost { side: side.other(), why: Some(why) }),
                None => Err(Broken::Lost { side: side.other(), why: None }),
            },
        }
    }

    /// Lets both sides write their reports, or asks them to give up; waits for their ends.
    pub async fn end(mut self, done: &Result<(), Broken>) -> Vec<SideEnd> {
        for child in &mut self.children {
            match done {
                Ok(()) => child.go().await,
                Err(_) => child.stop(),
            }
        }
        let mut ended = Vec::new();
        for child in self.children {
            ended.push(child.end().await);
        }
        ended
    }
}

/// Checks that a side's first event is a hello of our protocol; `None`: no event came in time.
fn check_hello(side: Side, received: Option<Result<Event, Broken>>) -> Result<(), Broken> {
    let none =
        "it is no bootrace, or one of another version\nfix: run bootrace ab with a bootrace of its version";
    let why = match received {
        Some(Ok(Event::Hello { protocol: PROTOCOL })) => return Ok(()),
        Some(Ok(Event::Hello { protocol })) => format!(
            "it speaks protocol {protocol}, and this bootrace {PROTOCOL}\nfix: run bootrace ab with a bootrace of its version"
        ),
        Some(Err(Broken::Lost { side: lost, .. })) if lost == side => none.into(),
        Some(Err(broken)) => return Err(broken),
        Some(Ok(_)) => none.into(),
        None => format!("it sent nothing within {} s: {none}", HELLO.as_secs()),
    };
    Err(Broken::Lost { side, why: Some(why) })
}

fn unexpected(side: Side, event: &Event) -> Broken {
    Broken::Lost { side, why: Some(format!("it sent {event:?} out of turn")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn anything_but_a_hello_is_reported_with_its_cause() {
        let why = |received| match check_hello(Side::New, received) {
            Err(Broken::Lost { side: Side::New, why: Some(why) }) => why,
            _ => panic!("its hello was accepted"),
        };
        assert!(check_hello(Side::New, Some(Ok(Event::Hello { protocol: PROTOCOL }))).is_ok());
        let other = why(Some(Ok(Event::Hello { protocol: PROTOCOL + 1 })));
        let expected = format!("speaks protocol {}, and this bootrace {PROTOCOL}", PROTOCOL + 1);
        assert!(other.contains(&expected), "{other}");
        assert!(why(None).starts_with("it sent nothing within 30 s: it is no bootrace"));
        let noise = Broken::Lost { side: Side::New, why: Some("expected value".into()) };
        assert!(why(Some(Err(noise))).starts_with("it is no bootrace"));
    }
}
