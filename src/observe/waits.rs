//! What a task waits for, told from the functions on its kernel stack: which of them says most, and what that is in
//! words.
//!
//! Must not know: where the stack was read. Invariant: one table of the functions that only wait and one of the resources, both
//! for all kernels and architectures.

/// Functions that only say *that* a task waits: for a lock, a bit, a completion, some time.
const ONLY_WAIT: &[&str] = &[
    // the scheduler
    "__schedule __schedule_bug __switch_to __switch_to_asm _cond_resched _switch context_switch io_schedule \
    preempt_schedule schedule switch_to blk_io_schedule __cond_resched",
    // mutexes
    "mutex_lock mutex_optimistic_spin mutex_spin_on_owner osq_lock ww_mutex_lock",
    // reader-writer semaphores
    "down_read down_write",
    // semaphores
    "___down_common __down down",
    // bits of a word, a page, an inode, a buffer
    "__wait_on_bit __wait_on_bit_lock bit_wait bit_wait_io bit_wait_io_timeout bit_wait_timeout folio_wait_bit_common \
    inode_wait sleep_on_buffer sleep_on_page sleep_on_page_killable sync_buffer sync_page sync_page_killable \
    wait_on_bit wait_on_bit_io wait_on_bit_lock wait_on_bit_lock_io wait_on_page_bit_common",
    // completions and work
    "__cancel_work_sync __cancel_work_timer __flush_workqueue __synchronize_entity_decay __wait_for_common \
    cancel_delayed_work_sync cancel_work_sync do_wait_for_common drain_workqueue flush_delayed_work \
    flush_scheduled_work flush_work flush_workqueue kthread_flush_work kthread_flush_worker",
    // wait queues
    "add_wait_queue autoremove_wake_function bit_waitqueue default_wake_function finish_swait finish_wait \
    interruptible_sleep_on prepare_to_swait remove_wait_queue sleep_on sleep_on_timeout try_to_wake_up \
    var_wake_function wait_woken wake_atomic_t_function wake_bit_function wake_page_function wake_up_atomic_t \
    wake_up_bit wake_up_process wake_up_state woken_wake_function",
    // closures (bcache, bcachefs)
    "__closure_sync __closure_sync_timeout closure_sync",
    // time
    "do_nanosleep hrtimer_nanosleep msleep msleep_interruptible process_timeout",
    // ZFS's condition variables
    "cv_broadcast cv_signal cv_wait_common spl_cv_wait",
    // tracing and what compilers put in between
    "arch_rethook_trampoline ftrace_call ftrace_graph_caller kretprobe_trampoline return_to_handler",
];

/// Beginnings of names of the same kind.
const ONLY_WAIT_STARTS: &str = "__cv_ __down_ __flush_work __mutex_lock __percpu_down_ __percpu_rwsem_ __prepare_to_ __raw_spin_ __rt_mutex_ \
    __rt_spin_ __rwbase_ __rwsem_ __schedule_ __wait_for_completion __ww_mutex_ _raw_read_lock _raw_spin_ \
    _raw_write_lock call_rwsem_down_ cv_timedwait cv_wait down_interruptible down_killable down_read_ down_timeout \
    down_write_ io_schedule_ mutex_lock_ native_queued_ out_of_line_wait_on_ percpu_down_ percpu_rwsem_ \
    preempt_schedule_ prepare_to_wait queued_read_lock_ queued_spin_lock_ queued_write_lock_ rt_mutex_ rt_read_ \
    rt_spin_ rt_write_ rtlock_ rwbase_ rwsem_ schedule_ swait_ usleep_range wait_for_common wait_for_completion \
    wake_up_ ww_mutex_lock_";

/// Beginnings of functions and what a task waits for there, the most specific first.
const RESOURCES: &[(&str, &str)] = &[
    ("xfs_buf_lock xfs_buf_find xfs_buf_trylock _xfs_buf_find", "XFS buffer lock"),
    ("xfs_buf_iowait xfs_buf_submit xfs_bwrite _xfs_buf_read xfs_buf_delwri", "XFS buffer I/O"),
    ("xfs_ail_push xfsaild xfs_trans_ail", "XFS AIL"),
    (
        "xlog_ xfs_log_ _xfs_log_ xfs_trans_reserve xfs_trans_alloc xfs_trans_commit __xfs_trans_commit \
        xfs_trans_roll",
        "XFS log",
    ),
    ("xfs_extent_busy", "XFS busy extents"),
    ("xfs_ilock xfs_iunlock xfs_file_buffered_write xfs_file_buffered_aio_write xfs_file_dio", "inode lock"),
    (
        "xfs_inodegc xfs_reclaim xfs_iflush xfs_ipin __xfs_iunpin xfs_iunpin xfs_iget __xfs_iflock xfs_iflock",
        "XFS inode",
    ),
    ("xfs_qm_", "XFS quota"),
    (
        "jbd2_log_wait_commit log_wait_commit jbd2_complete_transaction jbd2_journal_force_commit \
        __jbd2_journal_force",
        "jbd2 commit",
    ),
    ("jbd2_log_do_checkpoint __jbd2_log_wait_for_space __log_wait_for_space", "jbd2 journal space"),
    ("jbd2_journal_commit_transaction kjournald", "jbd2 journal I/O"),
    ("do_get_write_access jbd2_journal_get_write_access jbd2_journal_get_ jbd2_journal_dirty_metadata", "jbd2 buffer"),
    (
        "wait_transaction_ start_this_handle add_transaction_credits jbd2__journal_start jbd2_journal_ journal_start \
        __ext4_journal_start ext4_journal_start",
        "jbd2 transaction",
    ),
    ("ext4_buffered_write_iter ext4_dio_write_iter ext4_file_write ext4_inode_lock", "inode lock"),
    ("ext4_mb_ ext4_lock_group", "ext4 block group"),
    ("btrfs_wait_ordered btrfs_start_ordered btrfs_run_ordered", "btrfs ordered extents"),
    (
        "btrfs_commit_transaction wait_current_trans wait_for_commit btrfs_wait_for_commit start_transaction \
        btrfs_start_transaction btrfs_async_run",
        "btrfs transaction",
    ),
    ("btrfs_tree_ btrfs_lock_root __btrfs_tree btrfs_search_slot", "btrfs tree lock"),
    ("__reserve_bytes btrfs_reserve handle_reserve_ticket wait_reserve_ticket __btrfs_unlock_up", "btrfs space"),
    ("f2fs_", "F2FS lock"),
    ("txg_wait txg_", "ZFS transaction group"),
    ("zil_", "ZFS intent log"),
    ("zio_wait zio_", "ZFS I/O"),
    ("arc_ dbuf_ dmu_", "ZFS buffer"),
    ("nfs_wait_bit nfs_wait_client rpc_wait __rpc_ rpc_ nfs4_call nfs4_do_ nfs4_proc nfs3_ nfs_", "NFS reply"),
    ("nfsd nlm svc_", "NFS server"),
    ("cifs_ smb2_ SMB2_ wait_for_response wait_for_free_request", "SMB reply"),
    ("ceph_osdc_ ceph_ rbd_", "Ceph reply"),
    (
        "request_wait_answer __fuse_request __fuse_simple fuse_simple fuse_request fuse_wait_event fuse_wait_init fuse_wait_aborted fuse_get_req",
        "FUSE reply",
    ),
    ("fuse_flush_writepage fuse_wait_on_page fuse_wait_on_folio fuse_set_nowrite fuse_sync_writes", "FUSE write-back"),
    (
        "fuse_file_write fuse_cache_write fuse_direct_write fuse_perform_write fuse_lock_inode fuse_fsync \
        fuse_buffered_write",
        "inode lock",
    ),
    ("loop_ lo_ __loop_", "loop device"),
    ("wbt_wait rq_qos_wait __rq_qos rq_qos_ __wbt iolatency", "write-back throttling"),
    ("blk_throtl throtl_", "I/O limit of a control group"),
    (
        "blk_mq_get_tag blk_mq_get_request __blk_mq_get_tag blk_mq_alloc_request get_request __blk_mq_alloc \
        blk_mq_submit_bio bt_get",
        "block request",
    ),
    (
        "blk_mq_freeze blk_mq_queue_enter blk_queue_enter __bio_queue_enter bio_queue_enter generic_make_request",
        "frozen block queue",
    ),
    ("blk_execute_rq scsi_execute __scsi_execute scsi_", "device command"),
    ("nvme_", "NVMe command"),
    (
        "submit_bio_wait submit_bh_wait blkdev_issue blk_rq_ bio_await __blkdev_issue sync_dirty_buffer \
        __sync_dirty_buffer",
        "block I/O",
    ),
    ("balance_dirty_pages", "dirty page limit"),
    ("__wait_on_buffer wait_on_buffer __lock_buffer lock_buffer __bread bh_", "buffer I/O"),
    (
        "folio_wait_writeback wait_on_page_writeback __filemap_fdatawait filemap_fdatawait filemap_write_and_wait \
        file_write_and_wait",
        "page write-back",
    ),
    (
        "__lock_page lock_page __folio_lock folio_lock find_lock_page __filemap_get_folio pagecache_get_page",
        "page lock",
    ),
    (
        "folio_wait_bit wait_on_page_bit wait_on_page_ filemap_update_page filemap_read generic_file_read read_pages \
        do_read_cache_page",
        "page",
    ),
    ("wb_wait_for_completion sync_inodes_sb __writeback_inodes writeback_inodes try_to_writeback", "write-back"),
    ("__inode_wait_for_writeback inode_wait_for_writeback inode_sleep_on_writeback", "inode write-back"),
    ("__wait_on_freeing_inode find_inode iget ilookup", "inode eviction"),
    (
        "__sb_start_write sb_start_write mnt_want_write sb_wait_write freeze_super thaw_super sb_start_",
        "file system freeze",
    ),
    ("iterate_supers iterate_super grab_super super_lock get_super deactivate_super user_get_super", "superblock lock"),
    (
        "lock_rename do_renameat vfs_rename filename_create do_unlinkat do_rmdir open_last_lookups do_last \
        lookup_slow walk_component iterate_dir vfs_unlink vfs_rmdir lookup_one path_openat d_alloc_parallel",
        "directory lock",
    ),
    (
        "inode_lock vfs_ generic_file_write generic_file_aio_write do_truncate chmod_common chown_common \
        notify_change inode_dio_wait __inode_dio_wait",
        "inode lock",
    ),
    ("__fdget_pos fdget_pos", "file position lock"),
    ("pipe_ anon_pipe fifo_", "pipe"),
    ("dm_ process_one_thin pool_ thin_", "device mapper"),
    ("md_ raid1_ raid5_ raid10_ raid5 raid_ wait_barrier _wait_barrier", "RAID"),
    ("drbd_", "DRBD"),
    ("gfs2_glock __gfs2_ gfs2_", "GFS2 lock"),
    ("__ocfs2_cluster_lock ocfs2_", "OCFS2 lock"),
    (
        "iomap_dio __iomap_dio do_blockdev_direct_IO __blockdev_direct_IO blkdev_direct_IO __blkdev_direct_IO",
        "direct I/O",
    ),
    (
        "synchronize_rcu synchronize_sched synchronize_srcu __synchronize_srcu wait_rcu_gp __wait_rcu_gp rcu_barrier \
        exp_funnel",
        "RCU grace period",
    ),
    (
        "__alloc_pages alloc_pages try_to_free shrink_ congestion_wait throttle_direct_reclaim reclaim_throttle \
        mem_cgroup mempool_alloc",
        "free memory",
    ),
    ("__refrigerator refrigerator do_freezer_trap", "freezer"),
    ("do_coredump coredump_wait exit_mm", "core dump"),
    (
        "mmap_ lock_mm_and_find_vma do_user_addr_fault __do_page_fault do_page_fault vm_mmap __x64_sys_m vma_",
        "memory map lock",
    ),
    ("do_wait wait_task kernel_wait", "child process"),
    ("futex_ do_futex", "futex"),
];

/// Functions that wait for a page; why shows in their caller.
const PAGE_WAITS: &str = "folio_wait_bit wait_on_page_bit";

/// The innermost function that is not just "waits for a lock" or "waits for a bit"; if there is none, the outermost.
pub fn waits_in<S: AsRef<str>>(frames: &[S]) -> Option<&str> {
    let at = telling(frames).or_else(|| frames.len().checked_sub(1))?;
    frames.get(at).map(AsRef::as_ref)
}

/// What a task with this stack waits for, in words: `XFS buffer lock`, `FUSE reply`; none if the stack does not tell.
pub fn waits_for<S: AsRef<str>>(frames: &[S]) -> Option<&'static str> {
    let at = telling(frames)?;
    let name = frames.get(at)?.as_ref();
    let caller = frames.get(at + 1).filter(|_| begins(name, PAGE_WAITS)).and_then(|caller| page_wait(caller.as_ref()));
    caller.or_else(|| resource(name))
}

fn telling<S: AsRef<str>>(frames: &[S]) -> Option<usize> {
    frames.iter().position(|name| !only_waits(name.as_ref()))
}

fn page_wait(caller: &str) -> Option<&'static str> {
    resource(caller).filter(|words| words.starts_with("page"))
}

fn resource(name: &str) -> Option<&'static str> {
    RESOURCES.iter().find(|(starts, _)| begins(name, starts)).map(|(_, words)| *words)
}

fn only_waits(name: &str) -> bool {
    ONLY_WAIT.iter().any(|names| names.split_whitespace().any(|other| other == name)) || begins(name, ONLY_WAIT_STARTS)
}

fn begins(name: &str, starts: &str) -> bool {
    starts.split_whitespace().any(|start| name.starts_with(start))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(names: &str) -> Vec<&str> {
        names.split_whitespace().collect()
    }

    #[test]
    fn the_telling_frame_and_the_resource() {
        let cases = [
            (
                "__schedule schedule __down_common down xfs_buf_lock xfs_buf_find",
                "xfs_buf_lock",
                Some("XFS buffer lock"),
            ),
            (
                "schedule schedule_timeout ___down_common __down down xfs_buf_lock",
                "xfs_buf_lock",
                Some("XFS buffer lock"),
            ),
            ("schedule xlog_wait_on_iclog xfs_log_force_seq", "xlog_wait_on_iclog", Some("XFS log")),
            ("schedule jbd2_log_wait_commit ext4_sync_file", "jbd2_log_wait_commit", Some("jbd2 commit")),
            (
                "io_schedule folio_wait_bit_common folio_wait_bit folio_wait_writeback",
                "folio_wait_bit",
                Some("page write-back"),
            ),
            ("io_schedule wait_on_page_bit_common __lock_page pagecache_get_page", "__lock_page", Some("page lock")),
            ("io_schedule sleep_on_page __wait_on_bit wait_on_page_bit x", "wait_on_page_bit", Some("page")),
            (
                "io_schedule sleep_on_buffer __wait_on_bit out_of_line_wait_on_bit __wait_on_buffer",
                "__wait_on_buffer",
                Some("buffer I/O"),
            ),
            (
                "schedule rwsem_down_write_slowpath down_write fuse_file_write_iter",
                "fuse_file_write_iter",
                Some("inode lock"),
            ),
            ("schedule request_wait_answer __fuse_simple_request", "request_wait_answer", Some("FUSE reply")),
            (
                "__switch_to schedule schedule_timeout wait_for_common wait_for_completion blk_execute_rq",
                "blk_execute_rq",
                Some("device command"),
            ),
            (
                "schedule percpu_rwsem_wait __percpu_down_read mnt_want_write",
                "mnt_want_write",
                Some("file system freeze"),
            ),
            ("cv_wait_common __cv_wait txg_wait_synced zil_commit", "txg_wait_synced", Some("ZFS transaction group")),
            (
                "schedule schedule_preempt_disabled __mutex_lock.constprop vfs_rename",
                "vfs_rename",
                Some("directory lock"),
            ),
            ("io_schedule rq_qos_wait wbt_wait", "rq_qos_wait", Some("write-back throttling")),
            ("schedule rpc_wait_bit_killable __wait_on_bit", "rpc_wait_bit_killable", Some("NFS reply")),
            ("schedule rt_mutex_schedule rwbase_write_lock down_write lo_ioctl", "lo_ioctl", Some("loop device")),
            ("__schedule schedule my_driver_wait", "my_driver_wait", None),
            ("__schedule schedule", "schedule", None),
        ];
        for (names, told, words) in cases {
            assert_eq!(waits_in(&frames(names)), Some(told), "{names}");
            assert_eq!(waits_for(&frames(names)), words, "{names}");
        }
        assert_eq!(waits_in::<&str>(&[]), None);
        assert_eq!(waits_for::<&str>(&[]), None);
    }

    #[test]
    fn direct_io_and_page_faults() {
        for (names, told, words) in [
            ("io_schedule blk_io_schedule __iomap_dio_rw iomap_dio_rw", "__iomap_dio_rw", Some("direct I/O")),
            ("io_schedule blk_io_schedule submit_bio_wait", "submit_bio_wait", Some("block I/O")),
            (
                "schedule rwsem_down_read_slowpath down_read lock_mm_and_find_vma",
                "lock_mm_and_find_vma",
                Some("memory map lock"),
            ),
        ] {
            assert_eq!((waits_in(&frames(names)), waits_for(&frames(names))), (Some(told), words), "{names}");
        }
    }

    #[test]
    fn no_resource_is_only_a_wait() {
        for (starts, words) in RESOURCES {
            for start in starts.split_whitespace() {
                assert!(!only_waits(start), "{start} ({words})");
                assert_eq!(resource(start), Some(*words), "{start} is hidden by an earlier line");
            }
        }
    }
}
