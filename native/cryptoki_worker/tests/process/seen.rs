//! What others can see of a process: root, in its memory, and whoever runs it, in `/proc`.

use crate::isolated::{Isolated, await_that, exists, field, status};
use crate::support::PIN;
use crate::world::object;
use cryptoki_engine::operation::answer::Answer;
use cryptoki_engine::operation::login::Login;
use cryptoki_engine::operation::operation::Operation;
use cryptoki_engine::process::link::Link;
use cryptoki_engine::process::wire::Hello;
use cryptoki_ffi::channel::Channel;
use cryptoki_ffi::values::{Data, Mechanism, Parameter, Value};
use cryptoki_sys::*;
use std::fs::{File, read_link, read_to_string};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::process::Command;

/// In nobody's memory but by our doing.
const PLAINTEXT: &[u8] = b"a plaintext that is nowhere else: 5CC2A0F19D";

/// Whether a process has it in memory that it may write to.
fn has(process: i32, bytes: &[u8]) -> bool {
    let memory = File::open(format!("/proc/{process}/mem")).unwrap();
    let maps = read_to_string(format!("/proc/{process}/maps")).unwrap();
    maps.lines().any(|line| {
        let (range, rest) = line.split_once(' ').unwrap();
        let (from, to) = range.split_once('-').unwrap();
        let at = |text| u64::from_str_radix(text, 16).unwrap();
        let mut all = vec![0; usize::try_from(at(to) - at(from)).unwrap()];
        rest.starts_with("rw")
            && memory.read_exact_at(&mut all, at(from)).is_ok()
            && all.windows(bytes.len()).any(|part| part == bytes)
    })
}

fn is_root() -> bool {
    // SAFETY: asks for a number.
    unsafe { libc::geteuid() == 0 }
}

fn crypto(key: CK_ULONG, mechanism: CK_MECHANISM_TYPE) -> (Operation, Mechanism) {
    let template = vec![
        (CKA_CLASS, Value::Ulong(CKO_SECRET_KEY)),
        (CKA_KEY_TYPE, Value::Ulong(key)),
        (CKA_VALUE_LEN, Value::Ulong(32)),
        (CKA_TOKEN, Value::Bool(false)),
        (CKA_SIGN, Value::Bool(true)),
        (CKA_ENCRYPT, Value::Bool(true)),
        (CKA_DECRYPT, Value::Bool(true)),
    ];
    let generation = Mechanism {
        kind: if key == CKK_AES {
            CKM_AES_KEY_GEN
        } else {
            CKM_GENERIC_SECRET_KEY_GEN
        },
        parameter: Parameter::Absent,
    };
    let iv = Data::copied(&[7; 16]);
    let used = Mechanism {
        kind: mechanism,
        parameter: if key == CKK_AES {
            Parameter::Raw(iv)
        } else {
            Parameter::Absent
        },
    };
    let mechanism = generation;
    (
        Operation::generate_key {
            mechanism,
            template,
        },
        used,
    )
}

#[test]
fn no_pin_and_no_plaintext_lies_in_the_memory_of_the_process() {
    let Some(world) = Isolated::ready(None) else {
        return;
    };
    if !is_root() {
        eprintln!("not root, who alone may look: not tested");
        return;
    }
    let _session = world.session().unwrap();
    let login = || Login::Without;
    let data = || Data::copied(PLAINTEXT);
    for large in [false, true] {
        let text = if large {
            Data::copied(&PLAINTEXT.repeat(4_000))
        } else {
            data()
        };
        let (generate, mechanism) = crypto(CKK_GENERIC_SECRET, CKM_SHA256_HMAC);
        let key = Some(object(world.run(generate)));
        let signed = Operation::sign {
            mechanism,
            key,
            data: text.clone(),
            login: login(),
        };
        assert!(world.run(signed).is_ok());

        let (generate, mechanism) = crypto(CKK_AES, CKM_AES_CBC_PAD);
        let key = Some(object(world.run(generate)));
        let encrypted = Operation::encrypt {
            mechanism: mechanism.clone(),
            key,
            data: text.clone(),
            login: login(),
        };
        let Ok(Answer::Bytes(encrypted)) = world.run(encrypted) else {
            panic!("not encrypted")
        };
        let data = Data::copied(&encrypted);
        let decrypted = Operation::decrypt {
            mechanism,
            key,
            data,
            login: login(),
        };
        let Ok(Answer::Secret(decrypted)) = world.run(decrypted) else {
            panic!("not decrypted")
        };
        assert!(*decrypted == *text);
    }
    // What one call has left is overwritten before the next.
    assert!(world.signs());
    let process = world.process_of_library();
    // What is there is found.
    assert!(has(process, b"softhsm2.conf"));
    assert!(!has(process, PIN.as_bytes()), "a PIN");
    assert!(!has(process, PLAINTEXT), "a plaintext");
}

/// Neither a core, nor anybody who attaches; nothing of our environment, our directory and our files.
#[test]
fn of_whoever_starts_it_a_process_keeps_nothing_and_shows_nothing() {
    let (first, ours) = Channel::pair().unwrap();
    let (note, _heard) = Channel::pair().unwrap();
    let dir = std::env::temp_dir().join(format!("cryptoki_worker-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let program = dir.join("nobodys");
    std::fs::copy(env!("CARGO_BIN_EXE_cryptoki_worker"), &program).unwrap();
    for path in [&dir, &program] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let inherited = File::open("/dev/zero").unwrap();
    let mut command = Command::new(&program);
    command
        .current_dir(&dir)
        .env_clear()
        .stdin(first.into_owned())
        .stdout(note.into_owned());
    if is_root() {
        command.uid(65_534).gid(65_534);
    }
    let at = std::os::fd::AsRawFd::as_raw_fd(&inherited);
    // SAFETY: between fork and exec it makes one system call, by which the descriptor is inherited.
    unsafe {
        command.pre_exec(move || {
            libc::fcntl(at, libc::F_SETFD, 0);
            Ok(())
        });
    }
    let mut keeper = command.spawn().unwrap();
    let mut link = Link::new(ours);
    assert!(
        link.receive::<Hello>()
            .is_ok_and(|hello| hello == Hello::ours())
    );
    let children = format!("/proc/{0}/task/{0}/children", keeper.id());
    let process: i32 = read_to_string(children).unwrap().trim().parse().unwrap();

    for process in [process, keeper.id().cast_signed()] {
        // Of one that may not be dumped all is root's.
        let of = |name: &str| std::fs::metadata(format!("/proc/{process}/{name}"));
        assert_eq!(of("environ").unwrap().uid(), 0);
        let limits = read_to_string(format!("/proc/{process}/limits")).unwrap();
        assert!(field(&limits, "Max core file size").starts_with("0 "));
        if is_root() {
            assert_ne!(
                field(&status(process), "Uid:").split('\t').next(),
                Some("0")
            );
            assert_eq!(
                read_link(format!("/proc/{process}/cwd")).unwrap().to_str(),
                Some("/")
            );
            let open = std::fs::read_dir(format!("/proc/{process}/fd"))
                .unwrap()
                .flatten();
            let open: Vec<_> = open.map(|entry| read_link(entry.path()).unwrap()).collect();
            assert!(!open.iter().any(|file| file.ends_with("zero")), "{open:?}");
        }
    }
    drop(link);
    keeper.wait().unwrap();
    await_that(|| !exists(process));
    let _ = std::fs::remove_dir_all(dir);
}
