# Modules of C, fork, pipes, sockets, the user's entry.
set -eu
cat >main.pl <<'P'
use strict; use warnings; use utf8;
use POSIX qw(strftime :sys_wait_h); use Socket; use Digest::SHA qw(sha1_hex); use File::Temp qw(tempfile);
use IO::Socket::INET; use Encode; use Data::Dumper; use Time::HiRes;
$Data::Dumper::Sortkeys = 1; $Data::Dumper::Indent = 1;
print Dumper({ b => [1, 2], a => 'x' }), sha1_hex('x'), "\n";
pipe(my $from, my $to);
my $child = fork();
if (!$child) { print $to "from the child\n"; close $to; exit 3 }
close $to; print scalar <$from>; waitpid($child, 0); print $? >> 8, "\n";
my $server = IO::Socket::INET->new(Listen => 1, LocalAddr => 'localhost') or die $!;
if (!fork()) { my $peer = $server->accept; print $peer "served\n"; exit 0 }
my $peer = IO::Socket::INET->new(PeerAddr => 'localhost', PeerPort => $server->sockport) or die $!;
print scalar <$peer>; wait;
print scalar(getpwuid($<)) ne '' ? "named\n" : "unnamed\n";
my ($handle, $name) = tempfile(UNLINK => 1); print $handle "x"; close $handle; print -s $name, "\n";
print strftime('%F', gmtime 0), ' ', length(decode('UTF-8', "\xc3\xa4")), "\n";
P
perl main.pl
perl -ne 'print if /x/' main.pl | wc -l
