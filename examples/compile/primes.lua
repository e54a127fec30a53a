-- The sieve of Eratosthenes: how many primes are there below a million?
local limit, composite, count = 1000000, {}, 0
for number = 2, limit - 1 do
  if not composite[number] then
    count = count + 1
    for multiple = number * number, limit - 1, number do
      composite[multiple] = true
    end
  end
end
print(count)
