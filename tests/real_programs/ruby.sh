# Threads, processes, sockets, gems of the standard library.
set -eu
cat >main.rb <<'R'
require 'json'; require 'socket'; require 'digest'; require 'tempfile'; require 'etc'; require 'openssl'
puts JSON.generate('a' => [1, nil], 'b' => 'ä')
puts 4.times.map { |n| Thread.new { n * n } }.sum(&:value)
reader, writer = IO.pipe
pid = fork { writer.puts 'from the child'; exit! 3 }
writer.close; puts reader.gets; Process.wait(pid); puts $?.exitstatus
server = TCPServer.new('localhost', 0)
thread = Thread.new { peer = server.accept; peer.puts 'served'; peer.close }
puts TCPSocket.new('localhost', server.addr[1]).gets; thread.join
Tempfile.create('x') { |file| file.write('x'); file.flush; puts File.size(file.path) }
puts Digest::SHA256.hexdigest('x')[0, 8], Etc.getpwuid.nil?, `echo shell`, Dir.home == Dir.pwd
puts OpenSSL::Digest.hexdigest('SHA1', 'x')[0, 8], Time.at(0).utc.year, Process.clock_gettime(1).class
R
ruby main.rb
gem environment gemdir | grep -c /
