"""The monitor runs from the installed version, and Prometheus could read it."""

import time

SEEN = ('ds01_gpu_state{gpu="3"', "ds01_monitor_problems 0.0", "ds01_containers_total")


def test_it_samples_and_serves_metrics(host):
    unit = host.service("ds01-monitor.service")
    assert unit.is_running
    assert unit.is_enabled
    end = time.monotonic() + 120
    page = ""
    while time.monotonic() < end and not all(text in page for text in SEEN):
        page = host.run("curl --silent --fail http://127.0.0.1:9101/metrics").stdout
        time.sleep(1)
    assert [text for text in SEEN if text not in page] == [], page
    assert host.file("/run/ds01/monitor/latest.json").mode == 0o600
