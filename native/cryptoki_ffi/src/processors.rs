//! On which processor a thread runs.

#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod linux {
    use libc::{CPU_ISSET, CPU_SET, CPU_SETSIZE, cpu_set_t};

    /// The one of the calling thread, at this moment.
    pub fn here() -> Option<usize> {
        // SAFETY: takes nothing.
        usize::try_from(unsafe { libc::sched_getcpu() }).ok()
    }

    fn mask() -> Option<cpu_set_t> {
        // SAFETY: a mask of zeros is an empty one, and this one is as long as is said.
        unsafe {
            let mut mask: cpu_set_t = std::mem::zeroed();
            let size = size_of::<cpu_set_t>();
            (libc::sched_getaffinity(0, size, &raw mut mask) == 0).then_some(mask)
        }
    }

    fn set(mask: &cpu_set_t) -> bool {
        // SAFETY: the mask is as long as is said.
        unsafe { libc::sched_setaffinity(0, size_of::<cpu_set_t>(), mask) == 0 }
    }

    fn of(mask: &cpu_set_t) -> Vec<usize> {
        let all = 0..usize::try_from(CPU_SETSIZE).unwrap_or_default();
        // SAFETY: the mask has that many bits.
        all.filter(|processor| unsafe { CPU_ISSET(*processor, mask) })
            .collect()
    }

    /// Those on which the calling thread may run; none where that cannot be told.
    pub fn allowed() -> Vec<usize> {
        mask().map_or_else(Vec::new, |mask| of(&mask))
    }

    /// Takes the calling thread to one of those; where it may run stays as it was.
    pub fn go_to(processor: usize) -> bool {
        let Some(before) = mask().filter(|mask| of(mask).contains(&processor)) else {
            return false;
        };
        // SAFETY: a mask of zeros is an empty one, and it has a bit for what is in another.
        let only = unsafe {
            let mut only: cpu_set_t = std::mem::zeroed();
            CPU_SET(processor, &mut only);
            only
        };
        let gone = set(&only);
        set(&before);
        gone
    }
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
mod elsewhere {
    /// Nobody tells.
    pub fn here() -> Option<usize> {
        None
    }

    /// Nobody tells.
    pub fn allowed() -> Vec<usize> {
        Vec::new()
    }

    /// Nobody goes.
    pub fn go_to(_processor: usize) -> bool {
        false
    }
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub use elsewhere::*;
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub use linux::*;

#[cfg(all(test, target_os = "linux", target_env = "gnu"))]
mod tests {
    use super::*;

    #[test]
    fn a_thread_goes_to_each_processor_and_may_run_where_it_might() {
        let before = allowed();
        assert!(here().is_some_and(|here| before.contains(&here)));
        for processor in &before {
            assert!(go_to(*processor));
            assert_eq!(allowed(), before);
        }
        assert!(!go_to(usize::MAX));
        assert_eq!(allowed(), before);
    }
}
