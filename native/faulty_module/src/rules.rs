//! The command language: what the lines of a control file say. `README.md` describes it.

use crate::attribute::Attribute;
use crate::functions::NAMES;
use crate::iv::Iv;
use crate::signature::Form;
use crate::subject::{About, Subject};
use crate::text::Padding;
use cryptoki_sys::{
    CK_FLAGS, CK_RV, CK_SLOT_ID, CK_ULONG, CKR_ATTRIBUTE_VALUE_INVALID, CKR_DEVICE_REMOVED,
};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// What every call answers while the control file has an error: nobody's test passes by accident.
pub const CKR_BAD_CONTROL: CK_RV = 0x8000_FA17;

/// What a rule does to a call.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Effect {
    /// Answer this instead.
    Answer(CK_RV),
    /// Wait, then go on.
    Delay(Duration),
    /// Wait until released, then go on.
    Hang,
    /// End the process.
    Crash(Crash),
    /// Lose all sessions and logins, then go on.
    Forget,
    /// Lose all logins, then go on.
    Logout,
    /// Falsify the length or count that the call gives back.
    Lie(Lie),
    /// Falsify the bytes that the call gives back.
    Garbage,
    /// Falsify the handles that it gives.
    Handle(CK_ULONG),
}

/// How a process ends.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Crash {
    /// A write to an address nobody has.
    Segv,
    /// abort().
    Abort,
    /// A C++ exception (an int), which the caller may catch.
    Cxx,
    /// abort(), when the process runs the destructors that were registered until now.
    Exit,
    /// exit(5), now.
    Quit,
    /// Takes memory until there is none.
    Memory,
    /// Starts threads until there are no more, and abort().
    Threads,
    /// Closes every descriptor of the process.
    Close,
}

impl Crash {
    /// By its name.
    pub fn of(way: &str) -> Option<Self> {
        Some(match way {
            "segv" => Crash::Segv,
            "abort" => Crash::Abort,
            "cxx" => Crash::Cxx,
            "exit" => Crash::Exit,
            "quit" => Crash::Quit,
            "memory" => Crash::Memory,
            "threads" => Crash::Threads,
            "close" => Crash::Close,
            _ => return None,
        })
    }
}

/// A false length.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Lie {
    /// This length.
    Exactly(CK_ULONG),
    /// So much more than is true.
    More(CK_ULONG),
    /// So much less than is true.
    Less(CK_ULONG),
    /// What the caller had put there.
    Untouched,
}

/// Which of the two calls of a "how long is it, give it" pair a rule is for, or which of two handles.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Only {
    /// Both.
    Both,
    /// The one without a buffer.
    Query,
    /// The one with a buffer.
    Data,
    /// The first handle: the public key of a pair.
    First,
    /// The second: the private key.
    Second,
}

/// A function, or several, and what happens to a call of it.
#[derive(Debug)]
pub struct Rule {
    pattern: String,
    /// In the order of the line.
    pub effects: Vec<Effect>,
    /// The target runs the call first.
    pub after_forward: bool,
    /// Which calls it is for.
    pub only: Only,
    about: Vec<About>,
    after: u64,
    every: u64,
    times: u64,
    probability: f64,
    until_initialize: bool,
    seen: AtomicU64,
    fired: AtomicU64,
}

/// A token that is pulled, or a slot that is not there.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Absence {
    /// Which; all of them if not said.
    pub slot: Option<CK_SLOT_ID>,
    /// The reader is gone too.
    pub whole_slot: bool,
    /// What calls on its sessions answer.
    pub rv: CK_RV,
}

/// What is done once, when a control file that says it is read.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Once {
    /// All sessions and logins are lost.
    Forget,
    /// All logins are lost.
    Logout,
    /// The token is pulled and put back between two calls.
    Replug(Option<CK_SLOT_ID>),
}

/// A label that a token does not have.
#[derive(Debug)]
pub struct Label {
    name: String,
    until_initialize: bool,
}

/// A control file.
#[derive(Debug, Default)]
pub struct Rules {
    /// In the order of the lines.
    pub rules: Vec<Rule>,
    /// Tokens and slots that are not there.
    pub absent: Vec<Absence>,
    /// What is done once.
    pub once: Vec<Once>,
    /// Whether objects have other handles after sessions were lost.
    pub handles_shift: bool,
    /// Whether the number of an object that is gone goes to the next one.
    pub handles_reuse: bool,
    /// Flags that C_GetTokenInfo shows besides.
    pub token_flags: CK_FLAGS,
    /// Flags of the token that it does not show.
    pub token_hides: CK_FLAGS,
    /// The label that C_GetTokenInfo shows in place of the token's.
    pub token_label: Option<Label>,
    /// How many sessions a slot takes.
    pub max_sessions: Option<usize>,
    /// Slot events: not supported, emulated, or the target's.
    pub slot_events: Option<bool>,
    /// The name that `C_LoginUser` takes for the user.
    pub user_name: Option<String>,
    /// What is typed at the keypad of the token.
    pub keypad: Option<String>,
    /// Whether searches always find more.
    pub search_endless: bool,
    /// What C_CreateObject answers for private and secret keys.
    pub values_refused: Option<CK_RV>,
    /// Whether C_UnwrapKey has CKM_RSA_AES_KEY_WRAP.
    pub rsa_aes_key_wrap: bool,
    /// The form of signatures.
    pub signature: Option<Form>,
    /// The length of the salt of PSS, whatever is asked for.
    pub salt: Option<CK_ULONG>,
    /// How many bytes a mechanism takes that hashes and signs.
    pub combined_limit: Option<CK_ULONG>,
    /// Attributes that are not answered as they are.
    pub attributes: Vec<Attribute>,
    /// Who chooses the IV of an encryption; the caller if not said.
    pub iv: Option<Iv>,
    /// With what fixed fields of text are filled; blanks if not said.
    pub padding: Option<Padding>,
    /// Whether the library was finalised since the file took effect.
    pub finalized: AtomicBool,
}

impl Rules {
    /// The rules that apply to this call of `name`; counts it. `query`: whether it is one without a buffer, where
    /// there are two.
    pub fn due(&self, name: &str, query: Option<bool>, subject: &Subject) -> Vec<&Rule> {
        self.rules
            .iter()
            .filter(|rule| {
                rule.matches(name)
                    && rule.concerns(query)
                    && rule.about.iter().all(|about| about.holds(subject))
                    && self.lasts(rule.until_initialize)
                    && rule.fires()
            })
            .collect()
    }

    /// The label that the token claims to have.
    pub fn token_label(&self) -> Option<&str> {
        self.token_label
            .as_ref()
            .filter(|label| self.lasts(label.until_initialize))
            .map(|label| label.name.as_str())
    }

    fn lasts(&self, until_initialize: bool) -> bool {
        !(until_initialize && self.finalized.load(Ordering::SeqCst))
    }

    /// Whether a rule still makes `name` hang.
    pub fn hangs(&self, name: &str) -> bool {
        self.rules
            .iter()
            .any(|rule| rule.matches(name) && rule.effects.contains(&Effect::Hang))
    }

    /// Whether, and how, the token of a slot is gone.
    pub fn absence(&self, slot: CK_SLOT_ID) -> Option<&Absence> {
        let mine = || {
            self.absent
                .iter()
                .filter(|absence| absence.slot.is_none_or(|id| id == slot))
        };
        mine()
            .find(|absence| absence.whole_slot)
            .or_else(|| mine().next())
    }

    /// Reads a control file. The error names the line and the word.
    pub fn parse(text: &str) -> Result<Rules, String> {
        let mut rules = Rules::default();
        for (number, line) in text.lines().enumerate() {
            let words: Vec<&str> = line
                .split('#')
                .next()
                .unwrap_or("")
                .split_whitespace()
                .collect();
            if !words.is_empty() {
                rules
                    .line(&words)
                    .map_err(|word| format!("line {}: {word:?} is not known", number + 1))?;
            }
        }
        Ok(rules)
    }

    /// What an unreadable control file amounts to.
    pub fn broken() -> Rules {
        Rules::parse(&format!("* rv={CKR_BAD_CONTROL}")).unwrap_or_default()
    }

    fn line(&mut self, words: &[&str]) -> Result<(), String> {
        match words {
            ["token" | "slot", "insert"] => {}
            [what @ ("token" | "slot"), "remove", options @ ..] => {
                let mut absence = Absence {
                    slot: None,
                    whole_slot: *what == "slot",
                    rv: CKR_DEVICE_REMOVED,
                };
                for option in options {
                    match option.split_once('=') {
                        Some(("slot", id)) => absence.slot = Some(number(id)?),
                        Some(("rv", rv)) => absence.rv = number(rv)?,
                        _ => return Err((*option).to_owned()),
                    }
                }
                self.absent.push(absence);
            }
            ["token", "replug"] => self.once.push(Once::Replug(None)),
            ["token", "replug", slot] => self.once.push(Once::Replug(Some(named("slot=", slot)?))),
            ["token", word, options @ ..] => match (word.split_once('='), options) {
                (Some(("flags", flags)), []) => self.token_flags = number(flags)?,
                (Some(("without", flags)), []) => self.token_hides = number(flags)?,
                (Some(("label", name)), [] | ["until=initialize"]) => {
                    self.token_label = Some(Label {
                        name: name.to_owned(),
                        until_initialize: !options.is_empty(),
                    });
                }
                _ => return Err(words.join(" ")),
            },
            ["handles", "shift"] => self.handles_shift = true,
            ["search", "endless"] => self.search_endless = true,
            ["rsa_aes_key_wrap", "on"] => self.rsa_aes_key_wrap = true,
            ["values", "refused"] => self.values_refused = Some(CKR_ATTRIBUTE_VALUE_INVALID),
            ["values", "refused", rv] => self.values_refused = Some(named("rv=", rv)?),
            ["handles", "reuse"] => self.handles_reuse = true,
            ["sessions", "forget"] => self.once.push(Once::Forget),
            ["sessions", max] => self.max_sessions = Some(named("max=", max)? as usize),
            ["user", name] => {
                let name = name.strip_prefix("name=").ok_or("user name=NAME?")?;
                self.user_name = Some(name.to_owned());
            }
            ["keypad", pin] => {
                let pin = pin.strip_prefix("pin=").ok_or("keypad pin=PIN?")?;
                self.keypad = Some(pin.to_owned());
            }
            ["signature", form] => self.signature = Some(Form::parse(form)?),
            ["salt", length] => self.salt = Some(named("length=", length)?),
            ["combined", max] => self.combined_limit = Some(named("max=", max)?),
            ["attribute", kind, options @ ..] => {
                self.attributes.push(Attribute::parse(kind, options)?);
            }
            ["iv", words @ ..] => self.iv = Some(Iv::parse(words)?),
            ["padding", with] => self.padding = Some(Padding::parse(with)?),
            ["logout"] => self.once.push(Once::Logout),
            ["slot_events", "on"] => self.slot_events = Some(true),
            ["slot_events", "off"] => self.slot_events = Some(false),
            ["lie", function, words @ ..] => self.rules.push(Rule::parse(function, words, true)?),
            [function, words @ ..] => self.rules.push(Rule::parse(function, words, false)?),
            [] => {}
        }
        Ok(())
    }
}

impl Rule {
    fn parse(pattern: &str, words: &[&str], lie: bool) -> Result<Rule, String> {
        let mut rule = Rule {
            pattern: pattern.to_owned(),
            effects: Vec::new(),
            after_forward: false,
            only: Only::Both,
            about: Vec::new(),
            after: 0,
            every: 1,
            times: u64::MAX,
            probability: 1.0,
            until_initialize: false,
            seen: AtomicU64::new(0),
            fired: AtomicU64::new(0),
        };
        if !NAMES.iter().any(|name| rule.matches(name)) {
            return Err(pattern.to_owned());
        }
        for word in words {
            let unknown = || (*word).to_owned();
            if let Some((name, value)) = word.split_once('=')
                && let Some(about) = About::parse(name, value)
            {
                rule.about.push(about?);
                continue;
            }
            match word.split_once('=').unwrap_or((word, "")) {
                ("length" | "count", claim) if lie => {
                    rule.effects.push(Effect::Lie(parse_lie(claim)?))
                }
                // First: what it writes over is as long as the target says.
                ("garbage", "") if lie => rule.effects.insert(0, Effect::Garbage),
                ("handle", claim) if lie => rule.effects.push(Effect::Handle(number(claim)?)),
                ("only", "query") => rule.only = Only::Query,
                ("only", "data") => rule.only = Only::Data,
                ("only", "first") if lie => rule.only = Only::First,
                ("only", "second") if lie => rule.only = Only::Second,
                ("times" | "count", n) => rule.times = number(n)?,
                ("after", n) => rule.after = number(n)?,
                ("every", n) => rule.every = number(n)?.max(1),
                ("until", "initialize") => rule.until_initialize = true,
                ("probability", p) => rule.probability = p.parse().map_err(|_| unknown())?,
                _ if lie => return Err(unknown()),
                ("after_forward", "") => rule.after_forward = true,
                ("rv", rv) => rule.effects.push(Effect::Answer(number(rv)?)),
                ("delay", ms) => rule
                    .effects
                    .push(Effect::Delay(Duration::from_millis(number(ms)?))),
                ("hang", "") => rule.effects.push(Effect::Hang),
                ("forget", "") => rule.effects.push(Effect::Forget),
                ("logout", "") => rule.effects.push(Effect::Logout),
                ("crash", way) => {
                    let crash = Crash::of(way).ok_or_else(unknown)?;
                    rule.effects.push(Effect::Crash(crash));
                }
                _ => return Err(unknown()),
            }
        }
        Ok(rule)
    }

    fn matches(&self, name: &str) -> bool {
        match self.pattern.split_once('*') {
            Some((start, end)) => name
                .strip_prefix(start)
                .is_some_and(|rest| rest.ends_with(end)),
            None => self.pattern == name,
        }
    }

    /// A lie tells a query and a call apart for each attribute, when it is told.
    fn concerns(&self, query: Option<bool>) -> bool {
        match self.only {
            Only::Query => query != Some(false),
            Only::Data => query != Some(true),
            Only::Both | Only::First | Only::Second => true,
        }
    }

    /// Counts a call that matches, and says whether the rule applies to it.
    fn fires(&self) -> bool {
        let nth = self.seen.fetch_add(1, Ordering::Relaxed) + 1;
        nth > self.after
            && (nth - self.after).is_multiple_of(self.every)
            && (self.probability >= 1.0 || random() < self.probability)
            && self
                .fired
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| {
                    (n < self.times).then_some(n + 1)
                })
                .is_ok()
    }
}

fn parse_lie(text: &str) -> Result<Lie, String> {
    Ok(
        match (text, text.strip_prefix('+'), text.strip_prefix('-')) {
            ("untouched", ..) => Lie::Untouched,
            ("huge", ..) => Lie::Exactly(CK_ULONG::MAX / 2),
            ("max", ..) => Lie::Exactly(CK_ULONG::MAX),
            (_, Some(more), _) => Lie::More(number(more)?),
            (_, _, Some(less)) => Lie::Less(number(less)?),
            _ => Lie::Exactly(number(text)?),
        },
    )
}

/// The number behind a name.
fn named(name: &str, word: &str) -> Result<CK_ULONG, String> {
    number(word.strip_prefix(name).ok_or(word)?)
}

/// A number, decimal or after 0x.
pub(crate) fn number(text: &str) -> Result<CK_ULONG, String> {
    match text.strip_prefix("0x") {
        Some(hex) => CK_ULONG::from_str_radix(hex, 16),
        None => text.parse(),
    }
    .map_err(|_| text.to_owned())
}

/// A number from 0 to 1; the same sequence in every run, so that a failure can be seen again.
fn random() -> f64 {
    static STATE: AtomicU64 = AtomicU64::new(0);
    (splitmix(&STATE) >> 11) as f64 / (1_u64 << 53) as f64
}

/// Bytes by chance, the same in every run; apart from those of `random`.
pub fn fill(bytes: &mut [u8]) {
    static STATE: AtomicU64 = AtomicU64::new(1);
    for chunk in bytes.chunks_mut(8) {
        let random = splitmix(&STATE).to_le_bytes();
        chunk.copy_from_slice(&random[..chunk.len()]);
    }
}

fn splitmix(state: &AtomicU64) -> u64 {
    let mut z = state.fetch_add(0x9E37_79B9_7F4A_7C15, Ordering::Relaxed);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}
