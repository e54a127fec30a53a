# A package whose tests are run by npm; workers, child processes, a server, SharedArrayBuffer.
set -eu
mkdir package
cd package
cat >package.json <<'J'
{ "name": "package", "version": "1.0.0", "scripts": { "pretest": "node lib.js", "test": "node --test" } }
J
cat >lib.js <<'J'
exports.double = n => 2 * n;
J
cat >lib.test.js <<'J'
const test = require('node:test'), assert = require('node:assert');
test('doubles', () => assert.strictEqual(require('./lib').double(4), 8));
J
npm test >log 2>&1 || { cat log >&2; exit 1; }
grep -E '^(# |ℹ )(tests|pass|fail)' log | tr -d '#ℹ'
cat >main.js <<'J'
const { Worker, isMainThread, parentPort, workerData } = require('worker_threads');
const http = require('http'), fs = require('fs'), child = require('child_process');
async function main() {
    const shared = new SharedArrayBuffer(4), count = new Int32Array(shared);
    await Promise.all([1, 2, 3, 4].map(n => new Promise((resolve, reject) => {
        const worker = new Worker(__filename, { workerData: { shared, n } });
        worker.on('exit', resolve).on('error', reject);
    })));
    console.log(count[0]);
    console.log(child.execFileSync('tr', ['a-z', 'A-Z'], { input: 'child' }).toString());
    const server = http.createServer((request, response) => response.end('served'));
    await new Promise(resolve => server.listen(0, 'localhost', resolve));
    const answer = await fetch(`http://localhost:${server.address().port}/`);
    console.log(await answer.text());
    server.close();
    fs.writeFileSync('file', 'x'.repeat(1 << 20));
    console.log((await fs.promises.stat('file')).size, process.cwd() == require('os').homedir() + '/package');
}
if (isMainThread) main();
else for (let n = 0; n < 1000; n++) Atomics.add(new Int32Array(workerData.shared), 0, workerData.n);
J
node main.js
