"""A change of policy reaches those that run, as the kernel's own files say."""

_MEGABYTE = 1024 * 1024


def test_lower_and_higher_limits_reach_running_containers(containers, slices, policy):
    containers.start("alice")
    containers.start("bob")
    alice, bob = slices.name("alice"), slices.name("bob")
    assert (slices.memory_max(alice), slices.memory_max(bob)) == (200 * _MEGABYTE, 260 * _MEGABYTE)
    group = "aggregate: {max_cpus: 0.5, memory_max: 200M, tasks_max: 200}"
    policy.replace(policy.path, group, "aggregate: {max_cpus: 0.5, memory_max: 150M, tasks_max: 160}")
    policy.replace(policy.path, "memory_max: 260M", "memory_max: 340M")
    policy.apply()
    assert (slices.memory_max(alice), slices.memory_max(bob)) == (150 * _MEGABYTE, 340 * _MEGABYTE)
    assert (slices.tasks_max(alice), slices.tasks_max(bob)) == (160, 160)
    policy.restore()
    assert (slices.memory_max(alice), slices.memory_max(bob)) == (200 * _MEGABYTE, 260 * _MEGABYTE)
    assert slices.tasks_max(alice) == 200


def test_who_changes_group_gets_the_new_limits_and_the_old_slice_keeps_the_smaller(containers, slices, policy):
    containers.start("dave")
    old = slices.name("dave", "faculty")
    assert slices.memory_max(old) == 300 * _MEGABYTE
    policy.replace(policy.people, "dave,Dave Davis,faculty", "dave,Dave Davis,researcher")
    policy.apply()
    assert slices.memory_max(old) == 250 * _MEGABYTE
    assert slices.tasks_max(old) == 300
    policy.restore()
    assert slices.memory_max(old) == 300 * _MEGABYTE


def test_an_override_that_ends_goes_away_for_running_containers(containers, slices, policy):
    containers.start("bob")
    policy.replace(policy.path, "expires: 2099-12-31", "expires: 2020-12-31")
    policy.apply()
    assert slices.memory_max(slices.name("bob")) == 200 * _MEGABYTE
