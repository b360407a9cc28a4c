//! `ctl list -W` and `ctl topology -W`: the cluster on a screen that renews itself, or, where
//! nobody looks at a terminal, the table again and again.

mod asker;
mod changes;
mod picture;
mod screen;

use super::ctl::Remote;
use super::render::{self, members};
use super::verbs::{Format, ListArgs};
use super::{Exit, Failure};
use asker::{Answer, Asker};
use changes::Memory;
use picture::{Look, Picture};
use screen::{Key, Keys, Screen};
use std::io::{IsTerminal, Write};
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, sleep};

/// How often the age of the answer is drawn anew.
const TICK: Duration = Duration::from_secs(1);

/// What shall be shown.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    every: Duration,
    timestamp: bool,
    manner: render::Manner,
}

impl Wanted {
    /// `ctl list -W`.
    pub(super) fn list(args: &ListArgs, every: Duration) -> Self {
        Self {
            every,
            timestamp: args.timestamp,
            manner: render::Manner {
                format: args.format,
                extended: args.extended,
                tree: false,
            },
        }
    }

    /// `ctl topology -W`.
    pub(super) fn topology(every: Duration) -> Self {
        Self {
            every,
            timestamp: false,
            manner: render::Manner {
                tree: true,
                ..render::Manner::TABLE
            },
        }
    }
}

/// Show it until somebody ends it.
pub(super) async fn run(
    remote: &Remote,
    wanted: Wanted,
    out: &mut dyn Write,
) -> Result<Exit, Failure> {
    let mut asker = Asker::new(remote);
    let terminal = std::io::stdout().is_terminal();
    if terminal && wanted.manner.format == Format::Pretty {
        Live::open(wanted, out)?.run(&mut asker).await
    } else {
        repeat(&mut asker, wanted, out).await
    }
}

/// One table below the other. Nobody who answers is told on the way, and no end.
async fn repeat(asker: &mut Asker, wanted: Wanted, out: &mut dyn Write) -> Result<Exit, Failure> {
    let mut terminate = listen(SignalKind::terminate())?;
    loop {
        let people = wanted.manner.format == Format::Pretty;
        match asker.ask().await {
            Ok(answer) => {
                if people && wanted.timestamp {
                    writeln!(out, "{}", super::ctl::clock())?;
                }
                members(&answer.cluster, wanted.manner, out)?;
                if people {
                    answer
                        .missed
                        .iter()
                        .try_for_each(|missed| writeln!(out, " {missed}"))?;
                }
            }
            Err(missed) if people => writeln!(out, "nobody answers: {}", missed.join("; "))?,
            // Programs read documents: what is not one is left out.
            Err(_) => {}
        }
        if people {
            writeln!(out)?;
        }
        out.flush()?;
        tokio::select! {
            () = sleep(wanted.every) => {}
            _ = tokio::signal::ctrl_c() => return Ok(Exit::Ok),
            _ = terminate.recv() => return Ok(Exit::Ok),
        }
    }
}

fn listen(kind: SignalKind) -> Result<Signal, Failure> {
    signal(kind).map_err(|error| Failure::new(Exit::OsError, format!("signals: {error}")))
}

/// The screen and what is known.
struct Live<'a> {
    wanted: Wanted,
    look: Look,
    memory: Memory,
    screen: Screen<'a>,
    keys: Option<Keys>,
    resized: Signal,
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    tick: Interval,
}

impl<'a> Live<'a> {
    fn open(wanted: Wanted, out: &'a mut dyn Write) -> Result<Self, Failure> {
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // The signals first: from here on nothing ends without restoring the terminal.
        let resized = listen(SignalKind::window_change())?;
        let terminate = listen(SignalKind::terminate())?;
        let interrupt = listen(SignalKind::interrupt())?;
        let hangup = listen(SignalKind::hangup())?;
        let keys = Keys::open();
        let screen = Screen::open(out, keys.is_some())?;
        Ok(Self {
            wanted,
            look: Look::of_environment(),
            memory: Memory::default(),
            screen,
            keys,
            resized,
            terminate,
            interrupt,
            hangup,
            tick,
        })
    }

    async fn run(mut self, asker: &mut Asker) -> Result<Exit, Failure> {
        loop {
            let Some(answer) = self.attend(asker.ask()).await? else {
                return Ok(Exit::Ok);
            };
            self.learn(answer);
            self.draw()?;
            if self.attend(sleep(self.wanted.every)).await?.is_none() {
                return Ok(Exit::Ok);
            }
        }
    }

    fn learn(&mut self, answer: Result<Answer, Vec<String>>) {
        let now = Instant::now();
        match answer {
            Ok(answer) => self.memory.learn(answer, now, &super::ctl::clock()),
            Err(missed) => self.memory.miss(missed),
        }
    }

    /// Wait for something with eyes and ears open; nothing: somebody ends it.
    async fn attend<T>(&mut self, what: impl Future<Output = T>) -> Result<Option<T>, Failure> {
        let mut what = std::pin::pin!(what);
        loop {
            let key = async {
                match &mut self.keys {
                    Some(keys) => keys.next().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                done = &mut what => return Ok(Some(done)),
                key = key => match key {
                    Key::End => return Ok(None),
                    Key::Other => {}
                },
                _ = self.terminate.recv() => return Ok(None),
                _ = self.interrupt.recv() => return Ok(None),
                _ = self.hangup.recv() => return Ok(None),
                _ = self.resized.recv() => self.draw()?,
                _ = self.tick.tick() => self.draw()?,
            }
        }
    }

    fn draw(&mut self) -> Result<(), Failure> {
        let (width, height) = self.screen.size();
        let picture = Picture {
            memory: &self.memory,
            manner: self.wanted.manner,
            every: self.wanted.every,
            now: Instant::now(),
            look: self.look,
        };
        self.screen.show(&picture.draw(width, height))?;
        Ok(())
    }
}
