# What node tells of the machine.
set -eu
node -e 'const os = require("os");
    console.log(os.cpus().length, os.availableParallelism?.() > 0, os.totalmem() > 0, os.uptime() > 0)'
