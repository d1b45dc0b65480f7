from distcloud.common.migrations import run

run()
