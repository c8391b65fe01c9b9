"""What a member leaves running before the machine starts anew."""


def test_a_container_that_restarts_with_the_machine_runs(host, person):
    host.check_output(
        "docker run --detach --init --restart=always --name=stays --cgroup-parent=%s ds01-lab/base sleep infinity",
        person("alice").slice,
    )
    assert host.check_output("docker inspect --format '{{.State.Status}}' stays") == "running"
